"""Golden samples and the parity gate."""

import dataclasses
import json

import numpy as np
import pytest
from tiny_models import strips_of, tiny_model

from cb_runtime.contract import LABELS, ModelMetadata
from cb_runtime.errors import ContractError, ModelError, UsageError
from cb_runtime.parity import (
    TOLERANCES,
    UNLABELLED,
    GoldenSamples,
    compare,
    golden_path,
    load_golden_samples,
    macro_f1,
    verify_session,
)
from cb_runtime.session import open_session


def logits_of(labels, margin=4.0):
    logits = np.zeros((len(labels), 5), np.float32)
    logits[np.arange(len(labels)), labels] = margin
    return logits


LABELS_40 = np.arange(40) % 5


def golden_of(session, count=40):
    """Return golden samples whose logits are the session's own."""
    random = np.random.default_rng(0)
    one, other = (np.stack(strips_of(random.choice([20, 120, 200], count))) for _ in range(2))
    inputs = {
        "ocr_viz": np.zeros((count, 48, 480, 3), np.uint8),
        "frame1": one,
        "frame2": other,
        "spatial_features": random.random((count, 6), np.float32),
        "font_embedding": np.zeros((count, 512), np.float32),
    }
    logits = session.run(inputs)
    return GoldenSamples(inputs, logits, logits.argmax(axis=1).astype(np.int64))


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    return open_session(tiny_model(tmp_path_factory.mktemp("model") / "best.onnx"), threads=1)


@pytest.fixture(scope="module")
def golden(session):
    return golden_of(session)


class Altered:
    """A session whose logits are changed by `alter(logits, inputs)`."""

    def __init__(self, session, alter, precision="fp32"):
        self.session, self.alter = session, alter
        self.metadata = ModelMetadata("altered", precision=precision)
        self.batches = set()

    def run(self, inputs):
        self.batches.add(len(inputs["frame1"]))
        return self.alter(self.session.run(inputs), inputs)


def test_equal_logits_hold_at_every_precision():
    logits = logits_of(LABELS_40)
    for precision in TOLERANCES:
        report = compare(logits, logits, LABELS_40, precision)
        assert report
        assert report.failures == ()
        assert "holds" in str(report)


@pytest.mark.parametrize("precision", [name for name, t in TOLERANCES.items() if t.max_abs_difference is not None])
def test_logits_may_differ_up_to_the_tolerance_of_the_precision(precision):
    logits = logits_of(LABELS_40)
    allowed = TOLERANCES[precision].max_abs_difference
    assert compare(logits, logits + np.float32(allowed * 0.9), LABELS_40, precision)
    report = compare(logits, logits + np.float32(allowed * 1.1), LABELS_40, precision)
    assert not report
    assert "differ by" in str(report)


def test_int8_logits_may_differ_while_decisions_hold():
    logits = logits_of(LABELS_40)
    assert compare(logits, logits * 2, LABELS_40, "int8")


def test_a_flip_names_the_sample_both_labels_and_how_sure_the_reference_was():
    reference, candidate = logits_of(LABELS_40), logits_of(LABELS_40)
    candidate[7] = logits_of([0])[0]
    report = compare(reference, candidate, LABELS_40, "int8")
    assert not report
    (flip,) = report.flips
    assert (flip.sample, flip.reference, flip.candidate, flip.margin) == (7, "empty_empty", "same", 4.0)
    assert "Sample 7 became same instead of empty_empty" in str(report)


def test_a_flip_where_the_reference_was_undecided_is_forgiven_below_fp32():
    labels = np.arange(2000) % 5
    reference, candidate = logits_of(labels), logits_of(labels)
    reference[0, :2], candidate[0, :2] = (1.0, 0.99), (0.99, 1.0)
    unlabelled = np.where(np.arange(2000) == 0, UNLABELLED, labels)
    assert compare(reference, candidate, unlabelled, "fp16")
    assert not compare(reference, candidate, unlabelled, "fp32")


def test_flips_near_a_tie_break_shares_alone_and_a_sure_one_more_than_that():
    labels = np.arange(20) % 5
    for margin, only_shares in ((0.4, True), (0.6, False)):
        reference, candidate = logits_of(labels), logits_of(labels)
        reference[3, 3] = margin
        candidate[3, 3] = -margin
        report = compare(reference, candidate, labels, "int8")
        assert not report
        assert report.only_shares_failed is only_shares
    assert compare(reference, reference, labels, "int8").only_shares_failed is False


def test_an_engine_wrong_at_one_batch_size_fails_by_more_than_shares(session, golden):
    def wrong_at_two(logits, inputs):
        return logits[:, ::-1] if len(logits) == 2 else logits

    report = verify_session(Altered(session, wrong_at_two, "int8"), golden, batches=(1, 2, 3))
    assert report.failures
    assert report.only_shares_failed is False


def test_lost_macro_f1_fails_the_gate():
    labels = np.arange(2000) % 5
    reference, candidate = logits_of(labels, margin=0.01), logits_of(labels, margin=0.01)
    candidate[:10] = logits_of((labels[:10] + 1) % 5, margin=0.01)
    report = compare(reference, candidate, labels, "bf16")
    assert list(report.failures) == ["Macro F1 lost 0.50 points, allowed 0.3."]
    assert report.macro_f1_loss == pytest.approx(0.5, abs=0.01)


def test_gained_macro_f1_passes():
    labels = np.arange(2000) % 5
    reference, candidate = logits_of(labels, margin=0.01), logits_of(labels, margin=0.01)
    reference[:5] = logits_of((labels[:5] + 1) % 5, margin=0.01)
    assert compare(reference, candidate, labels, "bf16")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_fail_and_the_report_is_still_json(value):
    candidate = logits_of(LABELS_40)
    candidate[3, 0] = value
    report = compare(logits_of(LABELS_40), candidate, LABELS_40, "int8")
    assert not report
    assert "sample 3 are not finite" in str(report)
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["max_abs_difference"] is None


def test_a_report_carries_the_tolerances_it_was_judged_by():
    logits = logits_of(LABELS_40)
    document = compare(logits, logits, LABELS_40, "fp16").to_dict()
    assert document["tolerances"] == dataclasses.asdict(TOLERANCES["fp16"])
    assert document["ok"] is True


def test_unlabelled_samples_count_for_logits_and_not_for_f1():
    logits = logits_of(LABELS_40)
    report = compare(logits, logits, np.full(40, UNLABELLED), "fp32")
    assert report
    assert report.macro_f1_loss is None


def test_macro_f1_is_the_mean_over_the_classes_that_occur():
    assert macro_f1(np.array([0, 0, 1]), np.array([0, 1, 1])) == pytest.approx(2 / 3)
    assert macro_f1(np.array([0, 0]), np.array([1, 0])) == pytest.approx(2 / 3)
    assert macro_f1(np.array([2, 2]), np.array([1, 1])) == 0


def test_shapes_that_do_not_match_and_unknown_precisions_are_refused():
    logits = logits_of(LABELS_40)
    with pytest.raises(ContractError, match="Parity needs"):
        compare(logits, logits[:3], LABELS_40, "fp32")
    with pytest.raises(ContractError, match="Parity needs"):
        compare(logits[:0], logits[:0], LABELS_40[:0], "fp32")
    with pytest.raises(ContractError, match="'fp8'"):
        compare(logits, logits, LABELS_40, "fp8")


def test_a_faithful_session_passes_at_all_batch_sizes(session, golden):
    watched = Altered(session, lambda logits, inputs: logits)
    report = verify_session(watched, golden, batches=(1, 2, 3, 8))
    assert report, str(report)
    assert watched.batches == {1, 2, 3, 8}, "every batch must be full"
    assert report.batches == (1, 2, 3, 8)
    assert "batches 1, 2, 3, 8" in str(report)


def test_an_engine_wrong_at_one_batch_size_only_is_caught(session, golden):
    wrong_at_2 = Altered(session, lambda logits, inputs: logits + np.float32(len(logits) == 2))
    report = verify_session(wrong_at_2, golden, batches=(1, 2, 8))
    assert not report
    assert all(failure.startswith("Batch 2:") for failure in report.failures)


def test_an_engine_wrong_at_one_place_of_a_batch_is_caught(session, golden):
    def alter(logits, inputs):
        logits[7:8] += 0.01
        return logits

    assert not verify_session(Altered(session, alter), golden, batches=(1, 8))


def test_the_precision_of_the_metadata_chooses_the_tolerances(session, golden):
    def alter(logits, inputs):
        return logits + np.float32(0.05)

    assert verify_session(Altered(session, alter, "fp16"), golden, batches=(4,))
    assert not verify_session(Altered(session, alter, "fp32"), golden, batches=(4,))
    assert verify_session(Altered(session, alter, "fp32"), golden, batches=(4,), precision="fp16")


def test_progress_is_told_per_batch_size(session, golden):
    seen = []
    verify_session(session, golden, batches=(1, 2), progress=lambda *args: seen.append(args))
    assert seen[-1] == ("Verifying", 2, 2)


@pytest.mark.parametrize("batches", [(), (0, 1)])
def test_batch_sizes_below_one_are_refused(session, golden, batches):
    with pytest.raises(UsageError, match="Batch sizes"):
        verify_session(session, golden, batches=batches)


def test_golden_samples_stand_beside_the_model():
    assert str(golden_path("runs/best.pt")) == str(golden_path("runs/best.onnx")) == "runs/best.golden.npz"


def test_golden_samples_survive_a_file(golden, tmp_path):
    golden.save(tmp_path / "best.golden.npz")
    read = load_golden_samples(tmp_path / "best.golden.npz")
    assert len(read) == len(golden)
    assert (read.logits == golden.logits).all()
    assert (read.labels == golden.labels).all()
    assert all((read.inputs[name] == golden.inputs[name]).all() for name in golden.inputs)


def test_missing_golden_samples_say_where_they_come_from(tmp_path):
    with pytest.raises(ModelError, match="--golden"):
        load_golden_samples(tmp_path / "best.golden.npz")


def test_cut_golden_samples_are_refused(golden, tmp_path):
    path = tmp_path / "best.golden.npz"
    golden.save(path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ModelError, match=r"best\.golden\.npz"):
        load_golden_samples(path)


@pytest.mark.parametrize("content", [b"", b"text", b"\x80\x04K\x01."])
def test_other_files_are_not_taken_for_golden_samples(tmp_path, content):
    path = tmp_path / "best.golden.npz"
    path.write_bytes(content)
    with pytest.raises(ModelError):
        load_golden_samples(path)


def test_a_pickle_inside_golden_samples_is_never_executed(tmp_path):
    class Malicious:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    path = tmp_path / "best.golden.npz"
    np.savez(path, logits=np.array([Malicious()], dtype=object), labels=np.zeros(1))
    with pytest.raises(ModelError):
        load_golden_samples(path)
    assert not (tmp_path / "executed").exists()


def test_a_lone_array_is_not_taken_for_golden_samples(tmp_path):
    with (tmp_path / "best.golden.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ModelError):
        load_golden_samples(tmp_path / "best.golden.npz")


def test_golden_samples_lacking_an_input_or_of_unequal_lengths_are_refused(golden):
    without = {name: value for name, value in golden.inputs.items() if name != "frame2"}
    with pytest.raises(ContractError, match="lack frame2"):
        GoldenSamples(without, golden.logits, golden.labels)
    with pytest.raises(ContractError, match="as many inputs"):
        GoldenSamples(golden.inputs, golden.logits[:3], golden.labels)
    nothing = {name: value[:0] for name, value in golden.inputs.items()}
    with pytest.raises(ContractError, match="as many inputs"):
        GoldenSamples(nothing, golden.logits[:0], golden.labels[:0])


def test_the_golden_samples_of_the_test_have_every_label(golden):
    assert set(golden.labels.tolist()) == set(range(len(LABELS)))
