from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tiny_pairs import TinyPairs, golden_of, logits_of, random_inputs, seeded_model

from cb_core.deployment import DeploymentModel
from cb_export.gate import check_reference, probe_inputs, reference_from_model, run_gate, run_in_batches
from cb_runtime.contract import INPUT_NAMES, ModelMetadata, graph_input_specs
from cb_runtime.errors import ContractError, ModelError, ParityError
from cb_runtime.parity import TOLERANCES, GoldenSamples

BATCHES = (1, 2, 3)


@pytest.fixture(scope="module")
def model():
    return DeploymentModel(seeded_model()).eval()


@pytest.fixture(scope="module")
def reference(model):
    return reference_from_model(model)


@pytest.fixture(scope="module")
def golden():
    return golden_of(seeded_model())


class Artifact:
    """Another PyTorch model in the place of an artifact, fed through `change`."""

    metadata = ModelMetadata("tiny_pairs")

    def __init__(self, model, change=lambda inputs: inputs, answer=lambda logits: logits):
        self._run, self._change, self._answer = reference_from_model(model), change, answer

    def run(self, inputs):
        return self._answer(self._run(self._change(dict(inputs))))

    def describe(self):
        return {"backend": "fake"}


def test_an_artifact_that_computes_the_same_passes(model, reference, golden):
    report = run_gate(Artifact(model), reference, golden, BATCHES)
    assert report
    assert report.golden.batches == BATCHES
    assert "holds" in str(report)


def test_the_report_is_plain_json_with_the_thresholds_used(model, reference, golden):
    summary = json.loads(json.dumps(run_gate(Artifact(model), reference, golden, BATCHES).to_dict()))
    assert summary["ok"] is True
    assert summary["golden"]["tolerances"]["max_abs_difference"] == TOLERANCES["fp32"].max_abs_difference
    assert summary["engine"] == {"backend": "fake"}


def test_a_wrong_weight_is_refused(reference, golden):
    wrong = seeded_model()
    wrong.head.weight.data[2, 3] += 0.5
    report = run_gate(Artifact(DeploymentModel(wrong)), reference, golden, BATCHES)
    assert not report
    assert "FAILED" in str(report)


def test_swapped_frames_are_refused(model, reference, golden):
    def swap(inputs):
        return {**inputs, "frame1": inputs["frame2"], "frame2": inputs["frame1"]}

    assert not run_gate(Artifact(model, swap), reference, golden, BATCHES)


def test_an_input_that_golden_samples_never_vary_must_be_connected_all_the_same(model, reference, golden):
    def forget(inputs):
        return {**inputs, "font_embedding": np.zeros_like(inputs["font_embedding"])}

    report = run_gate(Artifact(model, forget), reference, golden, BATCHES)
    assert report.golden
    assert not report.probes
    assert not report
    assert "Changing 'font_embedding' changes PyTorch's logits by" in str(report)


def test_an_input_whose_effect_is_below_the_logit_tolerance_must_be_connected_too(golden):
    faint = seeded_model()
    faint.head.weight.data[:, -512:] *= 1e-5
    faint = DeploymentModel(faint)

    def forget(inputs):
        return {**inputs, "font_embedding": np.zeros_like(inputs["font_embedding"])}

    reference = reference_from_model(faint)
    assert run_gate(Artifact(faint), reference, golden, BATCHES)
    report = run_gate(Artifact(faint, forget), reference, golden, BATCHES)
    assert report.golden
    assert report.probes
    assert [failure.partition("'")[2].partition("'")[0] for failure in report.failures] == ["font_embedding"]


def test_an_input_that_pytorch_ignores_may_be_ignored(golden):
    deaf = seeded_model()
    deaf.head.weight.data[:, -512:] = 0
    deaf = DeploymentModel(deaf)
    report = run_gate(Artifact(deaf), reference_from_model(deaf), golden, BATCHES)
    assert report
    assert max(report.effects["font_embedding"]) < 1e-6


def test_logits_that_are_not_finite_are_refused(model, reference, golden):
    report = run_gate(Artifact(model, answer=lambda logits: logits * np.nan), reference, golden, BATCHES)
    assert not report
    json.dumps(report.to_dict(), allow_nan=False)


def test_probes_with_huge_logits_are_judged_by_their_own_scale(golden):
    loud = seeded_model()
    loud.head.weight.data[:, -512:] *= 1e5
    loud = DeploymentModel(loud)

    def rounded(logits):
        return np.where(np.abs(logits) > 100, logits * np.float32(1 + 1e-6), logits)

    assert run_gate(Artifact(loud, answer=rounded), reference_from_model(loud), golden, BATCHES)


def test_probes_hold_constants_and_every_input_changed_alone(golden):
    probes = probe_inputs(golden)
    assert [sorted(np.unique(probes.inputs["frame1"][row])) for row in range(3)] == [[0], [1], [255]]
    for name in INPUT_NAMES:
        for other in INPUT_NAMES:
            same = np.array_equal(probes.inputs[other][probes.changed[name]], probes.inputs[other][probes.base])
            assert same == (name != other)


def test_probes_have_one_pair_of_each_label(golden):
    base = probe_inputs(golden).base
    assert base.stop - base.start == 5


def test_running_in_batches_keeps_rows_in_order(reference):
    inputs = random_inputs(5)
    np.testing.assert_allclose(run_in_batches(reference, inputs, 2), logits_of(seeded_model(), inputs), atol=1e-6)


def test_this_models_own_golden_samples_are_accepted(reference, golden):
    check_reference(reference, golden, graph_input_specs())


def test_golden_samples_of_another_model_are_refused(golden):
    torch.manual_seed(1)
    other = reference_from_model(DeploymentModel(TinyPairs().eval()))
    with pytest.raises(ModelError, match="not written by this model"):
        check_reference(other, golden, graph_input_specs())


def test_golden_samples_of_another_strip_size_are_refused(reference, golden):
    inputs = {**golden.inputs, "frame2": golden.inputs["frame2"][:, :24]}
    with pytest.raises(ContractError, match="golden samples do not fit the model: Input 'frame2'"):
        check_reference(reference, GoldenSamples(inputs, golden.logits, golden.labels), graph_input_specs())


def test_a_pytorch_model_whose_output_depends_on_the_place_in_the_batch_is_refused():
    model = seeded_model(place=0.1)
    with pytest.raises(ParityError, match="different logits at different places of a batch"):
        check_reference(reference_from_model(DeploymentModel(model)), golden_of(model), graph_input_specs())


def test_a_single_golden_sample_shows_a_model_that_depends_on_the_place_too():
    model = seeded_model(place=0.1)
    with pytest.raises(ParityError, match="different places"):
        check_reference(reference_from_model(DeploymentModel(model)), golden_of(model, 1), graph_input_specs())


def test_a_batch_norm_left_in_training_mode_is_refused(golden):
    model = DeploymentModel(seeded_model()).train()
    with pytest.raises(ParityError, match="BatchNorm"):
        check_reference(reference_from_model(model), golden, graph_input_specs())
