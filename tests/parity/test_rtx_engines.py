"""Every architecture that comes with cb, at its real size, becomes an engine in every precision. No GPU is needed."""

from __future__ import annotations

import shutil

import pytest
from settled_models import OWN, saved

from cb_export.pipeline import ExportOptions, export_checkpoint
from cb_export.trt.options import EngineOptions
from cb_runtime.backends.tensorrt import checked_plan
from cb_runtime.stages import read_manifest, stages_path
from cb_runtime.trt.sidecar import BatchProfile

pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed: pip install 'cb-toolkit[rtx]'")

SAMPLES = 16
"""Half of them calibrate int8, which wants eight."""
TYPES = {"fp32": "Float", "fp16": "Half", "bf16": "BFloat16", "int8": "Int8"}
"""What TensorRT calls the arithmetic of a precision."""
LEAST = {"fp32": 1.0, "fp16": 0.9, "bf16": 0.9, "int8": 0.25}
"""Share of the layers with weights that has to be in it. int8 leaves heads, and attention, in float."""


@pytest.fixture(scope="module", params=OWN)
def checkpoint(request, tmp_path_factory):
    """A checkpoint of each architecture, made once for all precisions and gone after them: some have 300 MB."""
    folder = tmp_path_factory.mktemp(request.param)
    yield saved(request.param, folder, SAMPLES)[0]
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize("precision", TYPES)
def test_an_architecture_becomes_an_engine_in_every_precision(checkpoint, precision, tmp_path):
    options = ExportOptions(
        format="trt",
        precision=precision,
        batches=(1,),
        # Weights that learnt nothing need not survive int8, and an engine that cannot run here cannot be judged.
        allow_parity_failure=True,
        unverified=True,
        engine=EngineOptions(flavour="rtx", profile=BatchProfile(1, 2, 4)),
    )
    result = export_checkpoint(checkpoint, tmp_path / "best.engine", options)
    record, plan = checked_plan(result.path)
    assert plan[1:4] == b"trt"
    assert record.metadata.precision == precision
    assert record.precision_proof["shares"][TYPES[precision]] >= LEAST[precision], record.precision_proof
    stages = read_manifest(result.path)
    assert (stages is not None) == (result.staged is not None)
    for name in () if stages is None else stages.members:
        assert (stages_path(result.path) / name).read_bytes()[1:4] == b"trt"
