"""`cb bench` and `cb compare`: what they tell is what they measured."""

import json
import os

import numpy as np
import pytest
from click.testing import CliRunner
from test_parity import Altered, golden_of
from tiny_models import tiny_model

from cb_runtime.cli.bench import bench
from cb_runtime.cli.compare import compare
from cb_runtime.contract import ModelMetadata, Preprocessing
from cb_runtime.errors import ContractError, ModelError, UsageError
from cb_runtime.golden import UNLABELLED
from cb_runtime.measuring import memory
from cb_runtime.measuring.bench import BenchOptions, bench_artifacts
from cb_runtime.measuring.comparison import compare_artifacts, run_all
from cb_runtime.measuring.dataset_file import spread_over_labels
from cb_runtime.measuring.memory import peak_memory, peak_resident_bytes
from cb_runtime.measuring.pairs import Pairs, read_pairs
from cb_runtime.measuring.random_inputs import random_inputs
from cb_runtime.measuring.timing import interleaved_seconds, median_ratio
from cb_runtime.session import open_session


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model") / "best.onnx")


@pytest.fixture(scope="module")
def session(model):
    return open_session(model, threads=1)


@pytest.fixture(scope="module")
def golden(session):
    return golden_of(session)


@pytest.fixture
def data(golden, tmp_path):
    golden.save(tmp_path / "best.golden.npz")
    return tmp_path / "best.golden.npz"


def run(command, *arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def die(*_):
    os._exit(9)


class TestTiming:
    def test_contenders_run_by_turns_and_every_second_round_in_reverse(self):
        order = []
        contenders = [lambda name=name: order.append(name) for name in "ab"]
        interleaved_seconds(contenders, rounds=3, warm_up=1)
        assert order == list("ba" + "ab" + "ba" + "ab")

    def test_seconds_are_of_the_contender_and_the_round_and_warm_up_does_not_count(self):
        now = [0.0]
        costs = {"a": iter((100, 1, 2, 3)), "b": iter((100, 10, 20, 60))}

        def spend(name):
            now[0] += next(costs[name])

        contenders = [lambda name=name: spend(name) for name in "ab"]
        seconds = interleaved_seconds(contenders, rounds=3, warm_up=1, clock=lambda: now[0])
        assert seconds.tolist() == [[1, 2, 3], [10, 20, 60]]
        assert median_ratio(seconds[0], seconds[1]) == 10

    def test_a_contender_may_run_untimed_before_each_turn_until_the_other_has_calmed_down(self):
        now, order = [0.0], []

        def spend(name, seconds):
            now[0] += seconds
            order.append(name)

        contenders = [lambda: spend("a", 1), lambda: spend("b", 5)]
        seconds = interleaved_seconds(contenders, rounds=2, warm_up=0, clock=lambda: now[0], settle_seconds=3)
        assert seconds.tolist() == [[1, 1], [5, 5]]
        assert "".join(order) == "aaaa" + "bb" + "bb" + "aaaa"


class TestBench:
    def test_every_batch_size_is_measured_for_every_artifact_and_the_first_is_the_unit(self, model):
        options = BenchOptions(batches=(1, 3), runs=4, rounds=2, warm_up=1, memory=False)
        rows = bench_artifacts([model, model], options, {"device": "cpu", "threads": 1})
        assert [[one.batch for one in row.throughput] for row in rows] == [[1, 3], [1, 3]]
        assert rows[0].latency_ratio == 1
        assert [one.ratio for one in rows[0].throughput] == [1, 1]
        for row in rows:
            assert 0 < row.latency_ms.p50 <= row.latency_ms.p90 <= row.latency_ms.p99 <= row.latency_ms.slowest
            assert all(0 < one.slowest <= one.median <= one.fastest for one in row.throughput)
            assert row.size == model.stat().st_size
            assert row.engine["provider"] == "CPUExecutionProvider"
            assert row.engine["threads"] == 1
            assert row.memory is None

    def test_the_session_is_run_at_the_batch_sizes_asked_for(self, model, monkeypatch):
        seen = []
        real = open_session(model)

        class Watched:
            metadata = real.metadata
            describe = real.describe

            def run(self, inputs):
                seen.append(len(inputs["frame1"]))

        monkeypatch.setattr("cb_runtime.measuring.bench.open_session", lambda path, **options: Watched())
        bench_artifacts([model], BenchOptions((2, 5), runs=3, rounds=2, warm_up=1, memory=False), {})
        assert seen == [1] * 4 + [2] * 3 + [5] * 3

    def test_memory_is_of_a_process_of_its_own(self, model):
        before = peak_resident_bytes()
        measured = peak_memory(model, 4, {"device": "cpu", "threads": 1})
        assert measured is not None
        assert measured.batch == 4
        assert 10 < measured.before_mib < measured.peak_mib
        assert before is not None

    def test_an_artifact_that_fails_while_its_memory_is_measured_is_told(self, tmp_path):
        with pytest.raises(ModelError, match=r"memory: Model .* does not exist"):
            peak_memory(tmp_path / "gone.onnx", 1, {})

    def test_a_killed_process_is_told_with_what_to_do(self, model, monkeypatch):
        monkeypatch.setattr(memory, "_measured", die)
        with pytest.raises(ModelError, match=r"was killed.*--no-memory"):
            peak_memory(model, 1, {})

    def test_where_the_system_does_not_tell_there_is_no_memory(self, monkeypatch, tmp_path):
        real = memory.importlib.import_module

        def absent(name):
            if name == "resource":
                raise ModuleNotFoundError(name)
            return real(name)

        monkeypatch.setattr(memory, "_STATUS", tmp_path / "none")
        assert peak_resident_bytes() > 2**20
        monkeypatch.setattr(memory.importlib, "import_module", absent)
        assert peak_resident_bytes() is None
        assert memory._measured(tmp_path / "gone.onnx", 1, {})[0] is not None

    @pytest.mark.parametrize(
        ("option", "value"),
        [("--batch", "1,0"), ("--batch", "many"), ("--runs", 0), ("--rounds", 0), ("--warm-up", -1)],
    )
    def test_options_that_cannot_be_obeyed_end_with_exit_code_2(self, model, option, value):
        assert run(bench, model, option, value).exit_code == 2

    def test_nothing_to_measure_is_refused(self):
        with pytest.raises(UsageError, match="at least one"):
            bench_artifacts([], BenchOptions(), {})

    def test_the_command_prints_percentiles_throughput_and_ratios(self, model):
        fast = ("--batch", "1,2", "--runs", 3, "--rounds", 2, "--no-memory", "--threads", 1, "--backend", "onnxruntime")
        done = run(bench, model, model, *fast)
        assert done.exit_code == 0, done.output
        for part in ("latency p99, ms", "pairs/s at batch 2", "1.00 x", "CPUExecutionProvider, 1 threads", "fp32"):
            assert part in done.stdout

    def test_json_is_one_document(self, model):
        done = run(
            bench,
            model,
            "--batch",
            "2",
            "--runs",
            2,
            "--rounds",
            2,
            "--no-memory",
            "--json",
            "--backend",
            "onnxruntime",
        )
        (row,) = json.loads(done.stdout)["artifacts"]
        assert row["latency_ms"]["runs"] == 2
        assert row["throughput"][0]["batch"] == 2
        assert row["engine"]["backend"] == "onnxruntime"

    def test_a_missing_artifact_ends_with_exit_code_4(self, tmp_path):
        assert run(bench, tmp_path / "gone.onnx").exit_code == 4

    def test_random_inputs_are_what_the_model_takes(self, session):
        inputs = random_inputs(session.metadata, 3)
        assert session.run(inputs).shape == (3, 5)
        assert inputs["frame1"].std() > 10


def pairs_of(golden, **changes):
    return Pairs(**{"inputs": golden.inputs, "labels": golden.labels, "source": "test", **changes})


class TestCompare:
    def test_an_artifact_agrees_with_itself(self, session, golden):
        outcome = compare_artifacts(session, session, pairs_of(golden), 16, 2)
        assert outcome.agreement == 1
        assert outcome.max_abs_difference == 0
        assert outcome.disagreements == ()
        assert outcome.macro_f1 == (1, 1)
        assert outcome.pairs == outcome.labelled == 40

    def test_pairs_decided_otherwise_are_told_with_both_margins_surest_first(self, session, golden):
        chosen = np.flatnonzero(golden.labels == golden.labels[0])[:3]

        def turned(logits, inputs):
            same = (inputs["spatial_features"][:, None] == golden.inputs["spatial_features"][chosen]).all(axis=2)
            return np.where(same.any(axis=1)[:, None], -logits, logits)

        outcome = compare_artifacts(session, Altered(session, turned), pairs_of(golden), 7, 2)
        assert outcome.agreement == pytest.approx(37 / 40)
        assert {one.pair for one in outcome.disagreements} == set(chosen.tolist())
        margins = [one.first_margin for one in outcome.disagreements]
        assert margins == sorted(margins, reverse=True)
        worst = outcome.disagreements[0]
        logits = np.sort(golden.logits[worst.pair])
        assert worst.first_margin == pytest.approx(logits[-1] - logits[-2], abs=1e-5)
        assert worst.second_margin == pytest.approx(logits[1] - logits[0], abs=1e-5)
        assert worst.first == worst.label != worst.second
        assert outcome.macro_f1[0] == 1 > outcome.macro_f1[1]

    def test_speed_is_the_median_and_its_ratio_that_of_the_same_round(self, session, golden, monkeypatch):
        seconds = np.array([[1.0, 2.0, 4.0], [0.5, 4.0, 1.0]])
        monkeypatch.setattr("cb_runtime.measuring.comparison.interleaved_seconds", lambda runs, rounds: seconds)
        speed = compare_artifacts(session, session, pairs_of(golden), 4, 3).speed
        assert speed.pairs_per_second == (2, 4)
        assert speed.ratio == 2

    def test_all_pairs_run_in_full_batches_and_each_once(self, session, golden):
        watched = Altered(session, lambda logits, inputs: logits)
        logits = run_all(watched, pairs_of(golden), 16)
        np.testing.assert_allclose(logits, golden.logits, atol=1e-6)
        assert watched.batches == {16}

    def test_without_labels_there_is_no_f1(self, session, golden):
        unlabelled = pairs_of(golden, labels=np.full(40, UNLABELLED))
        outcome = compare_artifacts(session, Altered(session, lambda logits, _: -logits), unlabelled, 16, 1)
        assert outcome.macro_f1 is None
        assert outcome.labelled == 0
        assert outcome.disagreements[0].label is None

    def test_logits_that_are_not_finite_are_null_in_json(self, session, golden):
        broken = Altered(session, lambda logits, _: logits * np.float32(np.inf))
        assert compare_artifacts(session, broken, pairs_of(golden), 16, 1).to_dict()["max_abs_difference"] is None

    @pytest.mark.parametrize(
        "changes",
        [
            {"preprocessing": Preprocessing(resize_strategy="crop")},
            {"ocr_viz_variant": "centers"},
            {"use_font_embedding": True},
        ],
    )
    def test_artifacts_that_take_other_inputs_are_not_compared(self, session, golden, changes):
        other = Altered(session, lambda logits, _: logits)
        other.metadata = ModelMetadata("tiny", **changes)
        with pytest.raises(ContractError, match=f"cannot be fed the same pairs: {next(iter(changes))}"):
            compare_artifacts(session, other, pairs_of(golden), 16, 1)

    def test_the_command_tells_agreement_f1_and_speed(self, model, data):
        done = run(compare, model, model, "--data", data, "--rounds", 2)
        assert done.exit_code == 0, done.output
        for part in ("100.00% of 40 pairs", "golden samples best.golden.npz", "Macro F1 on 40", "times as fast"):
            assert part in done.stdout

    def test_json_has_both_sessions_and_all_disagreements(self, model, data):
        document = json.loads(run(compare, model, model, "--data", data, "--rounds", 1, "--json").stdout)
        assert document["first"]["session"]["backend"] == document["second"]["session"]["backend"] == "onnxruntime"
        assert document["comparison"]["agreement"] == 1
        assert document["comparison"]["speed"]["batch"] == 16

    def test_less_agreement_than_asked_for_ends_with_exit_code_7(self, model, data, monkeypatch):
        real = compare_artifacts

        def with_a_liar(first, second, *rest):
            return real(first, Altered(second, lambda logits, _: -logits), *rest)

        monkeypatch.setattr("cb_runtime.measuring.comparison.compare_artifacts", with_a_liar)
        command = (compare, model, model, "--data", data, "--rounds", 1)
        done = run(*command, "--min-agreement", "0.5", "--json")
        assert done.exit_code == 7
        assert json.loads(done.stdout)["comparison"]["agreement"] < 0.5
        shown = run(*command)
        assert shown.exit_code == 0
        assert "true label" in shown.stdout

    @pytest.mark.parametrize(
        ("option", "value"),
        [("--batch", 0), ("--rounds", 0), ("--pairs", 0), ("--min-agreement", "1.5"), ("--data", "pairs.csv")],
    )
    def test_options_that_cannot_be_obeyed_end_with_exit_code_2(self, model, data, option, value):
        assert run(compare, model, model, "--data", data, option, value).exit_code == 2

    def test_data_that_cannot_be_read_is_told(self, model, tmp_path):
        assert run(compare, model, model, "--data", tmp_path / "gone.db").exit_code == 3
        (tmp_path / "text.db").write_text("hello")
        done = run(compare, model, model, "--data", tmp_path / "text.db")
        assert done.exit_code == 3
        assert "cannot be read as a dataset" in done.stderr

    def test_golden_samples_are_read_whole_with_their_labels(self, session, golden, data):
        pairs = read_pairs(data, session.metadata, "test", 3)
        assert len(pairs) == 40
        np.testing.assert_array_equal(pairs.labels, golden.labels)


@pytest.mark.parametrize("limit", [1, 5, 9, 12, 100])
def test_pairs_are_spread_over_labels(limit):
    labels = np.array([0] * 50 + [1] * 2 + [2] * 7)
    chosen = spread_over_labels(labels, limit)
    counts = np.bincount(labels[chosen], minlength=3)
    assert len(chosen) == len(set(chosen.tolist())) == min(limit, 59)
    assert sorted(chosen) == chosen.tolist()
    if limit == 12:
        assert counts.tolist() == [5, 2, 5]
