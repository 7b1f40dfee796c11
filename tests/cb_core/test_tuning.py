"""`cb tune`: decodings tried on videos that were scored once."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from cb_core.cli.tune import tune
from cb_core.evaluation import tuning
from cb_core.evaluation.tuning import SCORED, decoding_from_file, tune_decoding
from cb_runtime.contract import Decoding
from cb_runtime.errors import InputError


@pytest.mark.parametrize("text", ["", "[]", '{"decoding": {"no": 1}}', '{"decoding": {"change_penalty": -1}}'])
def test_a_file_that_holds_no_decoding_is_refused_with_the_command_that_makes_one(tmp_path, text):
    file = tmp_path / "decoding.json"
    file.write_text(text)
    with pytest.raises(InputError, match="cb tune --output"):
        decoding_from_file(file)


@pytest.mark.parametrize(("output", "exit_code"), [("file/decoding.json", 3), ("folder", 2)])
def test_an_output_that_cannot_be_written_is_told_before_the_work(tmp_path, monkeypatch, output, exit_code):
    monkeypatch.setattr("cb_runtime.predictor.BoundaryPredictor", lambda *_, **__: pytest.fail("the work began"))
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder").mkdir()
    result = CliRunner().invoke(tune, ["--videos", str(tmp_path), "--output", str(tmp_path / output)])
    assert result.exit_code == exit_code
    assert output.partition("/")[0] in result.stderr


def test_a_saved_tuning_gives_its_decoding_back(tmp_path):
    wanted = Decoding((1, 2), change_penalty=2.0, score_scale=0.5)
    file = tmp_path / "decoding.json"
    file.write_text(json.dumps({"decoding": dataclasses.asdict(wanted)}))
    assert decoding_from_file(file) == wanted


def outcome(right):
    return SimpleNamespace(score=0.9 if right else 0.4, distance=0 if right else 2)


def evaluation_of(f1):
    """Return what tuning reads of an evaluation."""
    videos = (SimpleNamespace(outcomes=[outcome(True), outcome(False)]),)
    scores = tuple(SimpleNamespace(f1=f1) for _ in range(3))
    return SimpleNamespace(videos=videos, overall=SimpleNamespace(boundaries=scores))


@pytest.fixture
def tried(monkeypatch):
    """Let decodings do the better, the closer they are to one; give those that were tried."""
    found = []

    def evaluated(predictor, scored, decoding):
        found.append(decoding)
        alike = [
            decoding.far_distance == 8,
            decoding.distances == (1, 3),
            decoding.min_frames == 3,
            decoding.change_penalty == 5.0,
            decoding.far_margin == 2.0,
            decoding.blink_penalty == 4.0,
        ]
        return evaluation_of(sum(alike) / len(alike))

    monkeypatch.setattr(tuning, "_evaluated", evaluated)
    return found


def test_tuning_finds_distances_lengths_penalties_and_margins_one_after_the_other(tried):
    predictor = SimpleNamespace(metadata=SimpleNamespace(decoding=Decoding(score_scale=0.2)))
    best = tune_decoding(predictor, [None, None]).decoding
    wanted = Decoding((1, 3), min_frames=3, change_penalty=5.0, blink_penalty=4.0, far_distance=8, far_margin=2.0)
    assert dataclasses.replace(best, score_scale=1.0, score_offset=0.0) == wanted
    assert best.score_scale != 0.2


def test_tuning_tries_only_distances_that_the_command_scores(tried):
    tune_decoding(SimpleNamespace(metadata=SimpleNamespace(decoding=Decoding())), [None, None])
    assert {distance for one in tried for distance in (*one.distances, *one.far_distances)} == set(SCORED)
