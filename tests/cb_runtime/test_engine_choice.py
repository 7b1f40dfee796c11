"""Which engine is taken: by what it reaches, never one that answers otherwise, and the same one the next time."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from test_backends import flat_pairs

from cb_runtime.contract import ModelMetadata
from cb_runtime.engine_choice import Trial, Way, workload
from cb_runtime.engine_choice.choosing import QUICK_SECONDS, TIE, Measures, choose
from cb_runtime.engine_choice.judging import Judge
from cb_runtime.engine_choice.ways import choice_from_dict
from cb_runtime.engine_choice.workload import Part, seconds_per_batch, speed_ratio
from cb_runtime.errors import ContractError, ModelError, UsageError
from cb_runtime.golden import GoldenSamples
from cb_runtime.models import default_model_path
from cb_runtime.session import open_session

PLAIN, FP32, TWO, BF16 = (
    Way("onnxruntime", "fp32"),
    Way("openvino", "fp32", streams=1),
    Way("openvino", "fp32", streams=2),
    Way("openvino", "bf16", streams=1),
)


def measures(speeds, problems=(), broken=(), quick=False):
    """Return measures of executors that are their ways' names; speeds and problems by that name."""

    def opened(way):
        if str(way) in broken:
            raise ModelError(f"{way} cannot be opened")
        return str(way)

    return Measures(
        open=opened,
        problem=dict(problems).get,
        seconds=lambda executor: QUICK_SECONDS * (0.5 if quick else 2),
        ratio=lambda base, other: speeds[other] / speeds[base],
    )


class TestChoosing:
    def test_the_fastest_is_taken_and_the_others_are_told(self):
        executor, choice = choose((PLAIN, FP32, TWO), measures({str(PLAIN): 1, str(FP32): 1.2, str(TWO): 1.5}))
        assert executor == str(TWO)
        assert (choice.way, choice.base) == (TWO, "onnxruntime fp32")
        assert choice.trials == (Trial("openvino fp32", 1.2), Trial("openvino fp32 in 2 streams", 1.5))
        assert str(choice).startswith(
            "openvino fp32 in 2 streams is 1.50 times as fast as onnxruntime fp32 (openvino fp32 1.20 times), measured "
        )

    @pytest.mark.parametrize(("speed", "taken"), [(TIE - 0.01, PLAIN), (TIE + 0.01, FP32), (0.5, PLAIN)])
    def test_a_near_tie_goes_to_the_plain_engine(self, speed, taken):
        executor, choice = choose((PLAIN, FP32), measures({str(PLAIN): 1, str(FP32): speed}))
        assert (executor, choice.way) == (str(taken), taken)
        assert f"openvino fp32 {speed:.2f} times" in str(choice) or taken is FP32

    def test_one_that_answers_otherwise_is_left_out_and_named_however_fast(self):
        speeds = {str(PLAIN): 1, str(FP32): 1.2, str(BF16): 9}
        executor, choice = choose((PLAIN, FP32, BF16), measures(speeds, {str(BF16): "97 % decided alike"}))
        assert executor == str(FP32)
        assert "openvino bf16 left out: 97 % decided alike" in str(choice)

    def test_one_that_cannot_be_opened_is_left_out_and_named(self):
        speeds = {str(FP32): 1, str(TWO): 1.2}
        executor, choice = choose((PLAIN, FP32, TWO), measures(speeds, broken=[str(PLAIN)]))
        assert (executor, choice.base) == (str(TWO), "openvino fp32")
        assert choice.trials[0] == Trial("onnxruntime fp32", None, "onnxruntime fp32 cannot be opened")

    def test_streams_that_this_cpu_does_not_have_are_left_out_and_those_asked_for_are_an_error(self):
        def opened(way):
            if way.streams == 2:
                raise UsageError("--streams 2 cannot be had")
            return str(way)

        given = measures({str(PLAIN): 1, str(FP32): 1.2})
        only_one = Measures(opened, given.problem, given.seconds, given.ratio)
        executor, choice = choose((PLAIN, FP32, TWO), only_one)
        assert executor == str(FP32)
        assert "openvino fp32 in 2 streams left out: --streams 2 cannot be had" in str(choice)
        with pytest.raises(UsageError, match="--streams 2 cannot be had"):
            choose((TWO, BF16), only_one)

    def test_one_that_fails_while_it_is_timed_is_left_out_and_named(self):
        def fails(base, other):
            raise ModelError("out of memory")

        given = measures({})
        executor, choice = choose((PLAIN, FP32), Measures(given.open, given.problem, given.seconds, fails))
        assert executor == str(PLAIN)
        assert "openvino fp32 left out: out of memory" in str(choice)

    def test_where_none_can_be_opened_the_plain_one_says_why(self):
        with pytest.raises(ModelError, match="onnxruntime fp32 cannot be opened"):
            choose((PLAIN, FP32), measures({}, broken=[str(PLAIN), str(FP32)]))

    def test_a_foreign_file_is_told_at_once(self):
        def foreign(way):
            raise ContractError(f"{way}: not exported by cb")

        given = measures({})
        with pytest.raises(ContractError, match="onnxruntime fp32: not exported by cb"):
            choose((PLAIN, FP32), Measures(foreign, given.problem, given.seconds, given.ratio))

    def test_where_none_agrees_the_plain_one_is_taken_and_it_is_told(self):
        problems = dict.fromkeys((str(PLAIN), str(FP32)), "another model's samples")
        executor, choice = choose((PLAIN, FP32), measures({}, problems))
        assert executor == str(PLAIN)
        assert "although none could be proven to answer rightly, see `cb verify`" in str(choice)
        assert "onnxruntime fp32 left out: another model's samples" in str(choice)

    def test_a_lower_precision_is_never_what_is_left(self):
        given = measures({}, {str(BF16): "has to be proven"}, broken=[str(PLAIN), str(FP32)])
        with pytest.raises(ModelError, match="onnxruntime fp32 cannot be opened"):
            choose((PLAIN, FP32, BF16), given)

    def test_a_model_that_takes_no_time_is_not_measured_further(self):
        executor, choice = choose((PLAIN, FP32), measures({}, broken=[str(FP32)], quick=True))
        assert (executor, choice.trials) == (str(PLAIN), ())
        assert "less than 10 ms a batch, so no other was tried" in str(choice)

    def test_a_choice_is_read_back_as_it_was(self):
        _, choice = choose((PLAIN, BF16), measures({str(PLAIN): 1}, {str(BF16): "no"}))
        assert choice_from_dict(json.loads(json.dumps(choice.to_dict()))) == choice


def golden(count=10, labels=None):
    inputs = {name: np.concatenate([flat_pairs(20 + 18 * i, 1)[name] for i in range(count)]) for name in flat_pairs(20)}
    logits = np.eye(5, dtype=np.float32)[np.arange(count) % 5] * 4
    return GoldenSamples(inputs, logits, np.arange(count, dtype=np.int64) % 5 if labels is None else labels)


class Answers:
    """An executor that answers samples by their place, from logits it was given."""

    def __init__(self, samples, logits, precision="fp32", stages=None):
        self.known = {values.tobytes(): row for values, row in zip(samples.inputs["frame2"], logits, strict=True)}
        self.precision, self.stages, self.metadata = precision, stages, ModelMetadata("fake")

    def run(self, feeds):
        return np.stack([self.known[values.tobytes()] for values in feeds["frame2"]])

    def describe(self):
        return {"precision": self.precision, "device": "cpu"}


class TestJudging:
    def test_answers_like_pytorchs_are_accepted(self):
        samples = golden()
        assert Judge(samples, ModelMetadata("m")).problem(Answers(samples, samples.logits)) is None

    def test_another_decision_is_not(self):
        samples = golden()
        problem = Judge(samples, ModelMetadata("m")).problem(Answers(samples, samples.logits[::-1]))
        assert problem.startswith("it does not answer as PyTorch did: logits differ by 4")

    def test_the_staged_graph_is_looked_at_too(self):
        samples = golden()
        executor = Answers(samples, samples.logits, stages=Answers(samples, samples.logits + np.float32(0.1)))
        assert Judge(samples, ModelMetadata("m")).problem(executor).startswith("its staged graph does not answer")

    @pytest.mark.parametrize(("flips", "accepted"), [(1, True), (2, False)])
    def test_a_lower_precision_has_to_decide_99_5_percent_of_all_samples_alike(self, flips, accepted):
        samples = golden(12)
        # 200 samples, of which a few are hardly decided.
        rows = np.resize(np.arange(12), 200)
        inputs = {name: values[rows].copy() for name, values in samples.inputs.items()}
        for number in range(200):
            inputs["frame2"][number, 0, 0] = (number, 0, 0)
        logits = samples.logits[rows].copy()
        logits[-2:] = [1.0, 0.9, 0, 0, 0]
        many = GoldenSamples(inputs, logits, np.full(200, -1))
        answers = logits.copy()
        answers[-flips:] = [0.9, 1.0, 0, 0, 0]
        problem = Judge(many, ModelMetadata("m")).problem(Answers(many, answers, "bf16"))
        assert (problem is None) == accepted
        assert accepted or "99.00% of samples decided alike, needed 99.50%" in problem
        own = Judge(many, ModelMetadata("m", precision="bf16")).problem(Answers(many, answers, "bf16"))
        assert own is None, "of its own precision a few samples are looked at, hardly decided ones forgiven"

    def test_without_golden_samples_the_first_is_the_reference(self):
        metadata = ModelMetadata("m")
        judge = Judge(None, metadata)
        noise = GoldenSamples(judge.inputs, np.zeros((16, 5), np.float32), np.full(16, -1))
        first, same = np.eye(5, dtype=np.float32)[np.arange(16) % 5], np.eye(5, dtype=np.float32)[np.arange(16) % 5]
        assert judge.problem(Answers(noise, first)) is None
        assert judge.problem(Answers(noise, same)) is None
        assert "does not answer as the plain engine" in judge.problem(Answers(noise, first[::-1]))
        assert "bf16 on an artifact in fp32 has to be proven" in judge.problem(Answers(noise, first, "bf16"))

    def test_samples_that_the_model_does_not_take_are_a_problem_and_no_error(self):
        def fails(feeds):
            raise ModelError("wrong shape")

        executor = SimpleNamespace(run=fails, describe=lambda: {"precision": "fp32"}, metadata=ModelMetadata("m"))
        assert Judge(golden(), ModelMetadata("m")).problem(executor) == "wrong shape"


class TestTiming:
    def test_parts_count_as_often_as_a_video_needs_them(self):
        base = (Part(lambda: None, 1.0), Part(lambda: None, 6.0))
        other = (Part(lambda: None, 1.0), Part(lambda: None, 6.0))

        def clock(runs, rounds, warm_up):
            return np.tile(np.array([[0.1], [0.2], [0.1], [0.1]])[: len(runs)], rounds)

        assert speed_ratio(base, other, clock) == pytest.approx((0.1 + 6 * 0.2) / (0.1 + 6 * 0.1))
        assert seconds_per_batch(base, clock) == pytest.approx(16 * 1.3)

    @pytest.mark.parametrize(("seconds", "rounds"), [(10.0, 5), (0.05, 10), (0.0001, 15)])
    def test_heavy_models_are_timed_less_often(self, seconds, rounds):
        asked = []

        def clock(runs, rounds, warm_up):
            asked.append(rounds)
            return np.full((len(runs), rounds), seconds)

        parts = (Part(lambda: None, 1.0),)
        assert speed_ratio(parts, parts, clock) == 1
        assert sum(asked) == rounds

    def test_a_model_in_stages_is_timed_by_its_stages_and_another_by_pairs(self):
        sessions = [open_session(default_model_path(), measure=False, reuse=reuse) for reuse in (True, False)]
        inputs = golden(2).inputs
        staged, whole = (workload.workload(session._executor, inputs) for session in sessions)
        pairs = 2 * len(sessions[0].metadata.decoding.distances)
        assert [part.calls_per_frame for part in staged] == [1 / 16, pairs / 16]
        assert [part.calls_per_frame for part in whole] == [1 / 16]
        for part in (*staged, *whole):
            assert len(part.run()) == 16
