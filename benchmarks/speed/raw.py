"""The ceiling: an engine alone, on arrays that lie ready, with nothing of ours around it.

One pass encodes n frames and classifies 2n pairs, as scoring consecutive pairs in both directions has to. Features that
the classifier is given stand still, so that no copy between the two is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.material import Strips
from benchmarks.speed.peers import Provider, onnxruntime_session, openvino_model
from cb_runtime.measuring.random_inputs import random_inputs
from cb_runtime.session import Session
from cb_runtime.stages import CLASSIFIER, PICTURES, encoder_part, part_file, read_manifest

Feeds = dict[str, Any]
Run = Callable[[Feeds, int], object]
"""Runs feeds a number of times."""
Pass = Callable[[Strips], None]


def raw_onnxruntime(artifact: Path, strips: Strips, batch: int, threads: int) -> Pass:
    """Return a pass of ONNX Runtime over the staged graph; of the strips it is given it only takes the number."""

    def opened(graph: Path) -> Run:
        session = onnxruntime_session(graph, threads)
        return lambda feeds, times: [session.run(None, feeds) for _ in range(times)]

    return _pass(artifact, strips, batch, opened)


def raw_onnxruntime_on_gpu(artifact: Path, strips: Strips, batch: int, provider: Provider) -> Pass:
    """Return a pass of ONNX Runtime over the staged graph on a GPU: inputs and outputs lie there and stay there."""
    import onnxruntime

    def opened(graph: Path) -> Run:
        session = onnxruntime_session(graph, 1, provider)
        (output,) = session.get_outputs()
        bound: dict[int, Any] = {}  # by batch size: what lies there is brought there once

        def bind(feeds: Feeds) -> Any:  # noqa: ANN401  (no types)
            binding = session.io_binding()
            for name, values in feeds.items():
                binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(values, "cuda", 0))
            binding.bind_output(output.name, "cuda")
            return binding

        def run(feeds: Feeds, times: int) -> None:
            size = len(next(iter(feeds.values())))
            bound[size] = bound.get(size) or bind(feeds)
            for _ in range(times):
                session.run_with_iobinding(bound[size])

        return run

    return _pass(artifact, strips, batch, opened)


def raw_session_on_gpu(session: Session, batch: int) -> Pass:
    """Return a pass of an engine over pairs that lie on its GPU; of the strips it is given it only takes the number."""
    import torch

    def run(feeds: Mapping[str, Any], times: int) -> None:
        for _ in range(times):
            session.run(feeds)

    pairs = random_inputs(session.metadata, batch)
    return _whole_pass(run, {name: torch.from_numpy(values).cuda() for name, values in pairs.items()}, batch)


def raw_openvino(artifact: Path, strips: Strips, batch: int, how: Mapping[str, Any]) -> Pass:
    """Return a pass of OpenVINO over the staged graph, as many requests at a time as its streams take."""
    import openvino

    def opened(graph: Path) -> Run:
        queue = openvino.AsyncInferQueue(openvino_model(graph, how))

        def run(feeds: Feeds, times: int) -> None:
            for _ in range(times):
                queue.start_async(feeds)
            queue.wait_all()

        return run

    return _pass(artifact, strips, batch, opened)


def _pass(artifact: Path, strips: Strips, batch: int, opened: Callable[[Path], Run]) -> Pass:
    manifest = read_manifest(artifact)
    if manifest is None:  # nothing can be reused: the ceiling is the graph itself
        return _whole_pass(opened(artifact), _random_feeds(artifact, batch), batch)
    roles, classifier = manifest.roles, part_file(artifact, CLASSIFIER)
    encode, classify = opened(part_file(artifact, encoder_part(roles["frame1"]))), opened(classifier)
    pictures, pairs = {PICTURES: np.ascontiguousarray(strips[:batch])}, _random_feeds(classifier, batch)
    encoders = len({roles["frame1"], roles["frame2"]})

    def run(scored: Strips) -> None:
        for _ in range(encoders):
            _in_batches(encode, pictures, len(scored), batch)
        _in_batches(classify, pairs, 2 * (len(scored) - 1), batch)

    return run


def _whole_pass(whole: Run, feeds: Feeds, batch: int) -> Pass:
    def run(scored: Strips) -> None:
        _in_batches(whole, feeds, 2 * (len(scored) - 1), batch)

    return run


def _in_batches(run: Run, feeds: Feeds, rows: int, batch: int) -> None:
    """Run as many rows: in full batches, and what is left over in a smaller one."""
    run(feeds, rows // batch)
    if rows % batch:
        run({name: values[: rows % batch] for name, values in feeds.items()}, 1)


def _random_feeds(graph: Path, batch: int) -> Feeds:
    rng = np.random.default_rng(0)
    feeds: Feeds = {}
    for one in onnxruntime_session(graph, 1).get_inputs():
        shape = (batch, *one.shape[1:])
        whole = one.type == "tensor(uint8)"
        feeds[one.name] = rng.integers(0, 256, shape, np.uint8) if whole else rng.random(shape, np.float32)
    return feeds
