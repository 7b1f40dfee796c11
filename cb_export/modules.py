"""Modules of an architecture by name, e.g. `encoders.frame.fine`: which are inside others, and blocks of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

WHOLE = ""
"""Name of the architecture itself, as PyTorch has it."""


def is_inside(module: str, names: Iterable[str]) -> bool:
    """Tell whether a module is one of those named, or inside one; all are inside `WHOLE`."""
    return any(name == WHOLE or f"{module}.".startswith(f"{name}.") for name in names)


def blocks(modules: Sequence[str], count: int) -> list[str]:
    """Return at least `count` blocks, if there are as many modules, each a module that holds some of those given.

    Every module given is in a block. The block that holds most is divided first.
    """
    found = divided(WHOLE, modules)
    while len(found) < count:
        divisible = [block for block in found if len(members(block, modules)) > 1]
        if not divisible:
            break
        largest = max(divisible, key=lambda block: len(members(block, modules)))
        place = found.index(largest)
        found[place : place + 1] = divided(largest, modules)
    return found


def members(block: str, modules: Iterable[str]) -> list[str]:
    """Return those modules that are in a block."""
    return [module for module in modules if is_inside(module, [block])]


def divided(block: str, modules: Sequence[str]) -> list[str]:
    """Return the blocks next inside a block, two or more if it has parts, in order."""
    inner = list(dict.fromkeys(members(block, modules)))
    depth = block.count(".") + 1 if block else 0
    while True:
        depth += 1
        parts = list(dict.fromkeys(".".join(module.split(".")[:depth]) for module in inner))
        if len(parts) > 1 or parts == inner or not parts:
            return parts
