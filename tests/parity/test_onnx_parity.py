"""Every architecture that comes with cb, at its real size: PyTorch against the exported ONNX in each engine for it."""

from __future__ import annotations

import numpy as np
import pytest
from settled_models import OWN, random_inputs, saved

from cb_export.pipeline import ExportOptions, export_checkpoint
from cb_runtime.backends import backends_for
from cb_runtime.parity import TOLERANCES
from cb_runtime.session import open_session

BATCHES = (1, 2, 3)


def test_no_architecture_of_the_package_is_left_out():
    families = ("triple_backbone", "shared_backbone", "channel_fusion_lora", "compact_aligned", "cross_attention")
    assert all(any(name.startswith(family) for name in OWN) for family in families)


@pytest.mark.parametrize("name", OWN)
def test_an_architecture_decides_in_every_engine_as_in_pytorch(name, tmp_path):
    checkpoint, reference = saved(name, tmp_path)
    result = export_checkpoint(checkpoint, options=ExportOptions(batches=BATCHES))
    assert result.report, str(result.report)
    assert result.report.golden.batches == BATCHES
    assert result.report.golden.argmax_agreement == 1
    assert all(effect > 1e-3 for effect, _ in result.report.effects.values()), result.report.effects
    assert (result.metadata.lora_merge is not None) == ("lora" in name)

    unseen = random_inputs(1)
    wanted = reference(unseen)
    engines = [engine for engine, backend in backends_for(result.path) if backend.available().ok]
    assert "onnxruntime" in engines
    for engine in engines:
        session = open_session(result.path, device="cpu", backend=engine, measure=False)
        for graph in filter(None, (session, session.stages)):
            assert np.abs(graph.run(unseen) - wanted).max() <= TOLERANCES["fp32"].max_abs_difference, engine
