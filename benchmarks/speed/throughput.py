"""Pairs per second from strips in host memory: what users would run, beside our runtime, by turns in one process.

    python -m benchmarks.speed.throughput --output benchmarks/results/throughput.json

Every contender scores all consecutive pairs of the same strips in both directions; a pair counts once. Two ratios stand
together: against the loop that a user would write, and against the strongest peer of the same precision, which reuses
nothing. `share of the ceiling` is against the same engine alone on arrays that lie ready (`raw.py`), in the same round.
Agreement is of labels with the loop's. What neither `--checkpoint` nor the box has learnt nothing but its last layer.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.precision_models import by_architecture
from benchmarks.speed.engines import ORT, engines
from benchmarks.speed.figures import command, machine, markdown, native_bf16, spread, write_json
from benchmarks.speed.material import Material, Strips, kept_folder
from benchmarks.speed.peers import (
    Answers,
    Contender,
    onnxruntime_pairs,
    openvino_pairs,
    pytorch_batched,
    pytorch_loop,
)
from benchmarks.speed.raw import raw_onnxruntime, raw_openvino
from cb_runtime.features import VideoInputs
from cb_runtime.measuring.timing import interleaved_seconds, median_ratio
from cb_runtime.scoring import score_strips
from cb_runtime.session import Session, open_session

LOOP = "PyTorch loop"
PEER, OURS, CEILING = "peer", "cb_runtime", "engine alone"
ARCHITECTURES = ("aligned_comparison", "shared_backbone_resnet50")


@dataclass(frozen=True)
class Entry:
    """One contender."""

    name: str
    kind: str
    """`peer`, `cb_runtime`, or `engine alone`: the ceiling."""
    engine: str
    precision: str
    run: Callable[[Strips], Answers | None]


@dataclass(frozen=True)
class Row:
    """What was measured of a contender."""

    architecture: str
    contender: str
    kind: str
    engine: str
    precision: str
    pairs_per_second: dict[str, float]
    to_loop: float
    """Times as fast as the loop, median over rounds."""
    to_peer: float | None
    """Times as fast as the strongest peer of this precision; of ours only."""
    of_ceiling: float | None
    """Share of the rate of the same engine alone; of ours only."""
    agreement: float | None
    max_difference: float | None
    """Of a label's probability from the loop's."""


def entries(material: Material, frames: int, batch: int, threads: int, compiled: bool) -> list[Entry]:
    """Return all contenders on one architecture, the loop first."""
    model, inputs = material.model, material.inputs
    found = [Entry(LOOP, PEER, "PyTorch", "fp32", pytorch_loop(model, inputs))]
    found.append(
        Entry(f"PyTorch eager, batches of {batch}", PEER, "PyTorch", "fp32", pytorch_batched(model, inputs, batch))
    )
    if compiled:
        run = pytorch_batched(model, inputs, batch, compiled=True)
        found.append(Entry(f"PyTorch compiled, batches of {batch}", PEER, "PyTorch", "fp32", run))
    if compiled and native_bf16():
        run = pytorch_batched(model, inputs, batch, compiled=True, autocast=torch.bfloat16)
        found.append(Entry(f"PyTorch bf16, batches of {batch}", PEER, "PyTorch", "bf16", run))
    strips = material.strips(frames)
    for engine in engines(threads):
        artifact = material.artifact(engine.file)
        if engine.name == ORT:
            peer = onnxruntime_pairs(artifact, inputs, batch, threads)
            ceiling = raw_onnxruntime(artifact, strips, batch, threads)
        else:
            peer = openvino_pairs(artifact, inputs, batch, engine.openvino)
            ceiling = raw_openvino(artifact, strips, batch, engine.openvino)
        found += [
            Entry(f"{engine.title}, no reuse", PEER, engine.title, engine.precision, peer),
            Entry(
                f"cb_runtime on {engine.title}",
                OURS,
                engine.title,
                engine.precision,
                ours(open_session(artifact, **engine.ours), inputs, batch),
            ),
            Entry(f"{engine.title} alone", CEILING, engine.title, engine.precision, ceiling),
        ]
    return found


def ours(session: Session, inputs: VideoInputs, batch: int) -> Contender:
    """Return our runtime on consecutive pairs, as `cb infer` scores them."""

    def run(strips: Strips) -> Answers:
        scores = score_strips(session, iter(strips), inputs, distances=(1,), batch_size=batch)
        return np.stack((scores.forward, scores.backward), axis=1)

    return run


def measure(material: Material, arguments: argparse.Namespace) -> list[Row]:
    """Run all contenders by turns; return a row for each."""
    contenders = entries(material, arguments.frames, arguments.batch, arguments.threads, arguments.compiled)
    return by_turns(material.architecture, contenders, material.strips(arguments.frames), arguments.rounds)


def by_turns(
    architecture: str, contenders: list[Entry], strips: Strips, rounds: int, truth: Answers | None = None
) -> list[Row]:
    """Run contenders by turns, the loop first; return a row for each. Labels are compared with `truth`, else its."""
    answers = [one.run(strips) for one in contenders]
    seconds = interleaved_seconds([partial(one.run, strips) for one in contenders], rounds, warm_up=1)
    right = answers[0] if truth is None else truth
    assert right is not None, "the loop answers"
    return [
        _row(architecture, contenders, number, seconds, (answers[number], right)) for number in range(len(contenders))
    ]


def _row(
    architecture: str,
    contenders: list[Entry],
    number: int,
    seconds: NDArray[np.float64],
    answers: tuple[Answers | None, Answers],
) -> Row:
    one, (answer, right) = contenders[number], answers
    peers = [k for k, other in enumerate(contenders) if other.kind == PEER and other.precision == one.precision]
    strongest = min(peers, key=lambda k: float(np.median(seconds[k])))
    alone = [k for k, other in enumerate(contenders) if other.kind == CEILING and other.engine == one.engine]
    own = one.kind == OURS
    return Row(
        architecture,
        one.name,
        one.kind,
        one.engine,
        one.precision,
        spread(len(right) / seconds[number]),
        median_ratio(seconds[number], seconds[0]),
        median_ratio(seconds[number], seconds[strongest]) if own else None,
        median_ratio(seconds[number], seconds[alone[0]]) if own else None,
        None if answer is None else float((answer.argmax(axis=2) == right.argmax(axis=2)).mean()),
        None if answer is None else float(np.abs(answer - right).max()),
    )


HEAD = ("contender", "pairs/s", "to the loop", "to the strongest peer", "of the engine alone", "labels agree")


def table(rows: list[Row]) -> str:
    """Return a Markdown table of one architecture's rows."""
    return markdown(HEAD, [_cells(row) for row in rows])


def _cells(row: Row) -> list[str]:
    rate = row.pairs_per_second
    return [
        f"**{row.contender}**" if row.kind == OURS else row.contender,
        f"{rate['median']:.1f} ({rate['least']:.1f} to {rate['greatest']:.1f})",
        f"{row.to_loop:.1f}",
        "" if row.to_peer is None else f"{row.to_peer:.2f}",
        "" if row.of_ceiling is None else f"{row.of_ceiling:.0%}",
        "" if row.agreement is None else f"{row.agreement:.1%}",
    ]


def save(output: Path, head: dict[str, Any], rows: list[Row]) -> None:
    """Write what was measured as JSON, and beside it a Markdown table for each architecture."""
    write_json(output, {**head, "rows": [asdict(row) for row in rows]})
    names = dict.fromkeys(row.architecture for row in rows)
    tables = [f"{name}\n\n{table([row for row in rows if row.architecture == name])}" for name in names]
    output.with_suffix(".md").write_text("\n".join(tables))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--architectures", nargs="+", default=list(ARCHITECTURES), help="registered names")
    parser.add_argument("--frames", type=int, default=32, help="strips that are scored")
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count")
    parser.add_argument("--batch", type=int, default=16, help="pairs, and frames, per run")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="CPU threads of every engine")
    parser.add_argument("--no-compile", dest="compiled", action="store_false", help="leave out torch.compile")
    parser.add_argument("--seconds", type=float, default=20, help="length of the video that strips are of")
    parser.add_argument("--checkpoint", action="append", default=[], metavar="NAME=FILE", help="trained weights")
    parser.add_argument("--work", type=Path, help="folder that keeps exported models and the video")
    parser.add_argument("--output", type=Path, help="write the figures here as JSON, and as Markdown beside it")


def main() -> None:
    """Measure, print tables, and write JSON and Markdown when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows: list[Row] = []
    trained = by_architecture(arguments.checkpoint)
    with kept_folder(arguments.work) as work:
        for architecture in arguments.architectures:
            measured = measure(Material(work, architecture, arguments.seconds, trained=trained), arguments)
            print(f"\n{architecture}\n\n{table(measured)}", flush=True)
            rows += measured
    if arguments.output:
        settings = {name: getattr(arguments, name) for name in ("frames", "rounds", "batch", "threads")}
        save(arguments.output, {"command": command("benchmarks.speed.throughput"), **machine(), **settings}, rows)


if __name__ == "__main__":
    main()
