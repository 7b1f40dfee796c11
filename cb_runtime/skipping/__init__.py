"""Leaving out what need not be looked at: frames like the one before, and the inside of still stretches."""

from __future__ import annotations

from cb_runtime.skipping.options import SKIPS, USUAL, Skipping

__all__ = ["SKIPS", "USUAL", "Skipping"]
