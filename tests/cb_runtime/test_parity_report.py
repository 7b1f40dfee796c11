"""Reports of parity: what they show is what the comparison found, and the page needs nothing but itself."""

import dataclasses
import json
import re

import numpy as np
import pytest
from click.testing import CliRunner
from test_parity import Altered, golden_of
from tiny_models import tiny_model

from cb_runtime.cli.verify import verify
from cb_runtime.contract import LABELS
from cb_runtime.errors import StorageError, UsageError
from cb_runtime.parity import UNLABELLED, verify_session
from cb_runtime.parity_report import JudgedGraph, ReportFiles
from cb_runtime.parity_report.plots import logit_scatter, margin_scatter, place_grid
from cb_runtime.session import open_session

BATCHES = (1, 2, 5)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    return open_session(tiny_model(tmp_path_factory.mktemp("model") / "best.onnx"), threads=1)


@pytest.fixture(scope="module")
def golden(session):
    return golden_of(session)


def judged(session, golden, alter=lambda logits, inputs: logits):
    runs = []
    altered = Altered(session, alter)
    report = verify_session(altered, golden, BATCHES, on_run=runs.append)
    return JudgedGraph("Artifact", report, golden, runs, altered.metadata, {"backend": "onnxruntime", "threads": 1})


def wrong_at_the_second_of_two(logits, inputs):
    changed = logits.copy()
    if len(logits) == 2:
        changed[1] = -changed[1]
    return changed


def test_every_run_is_told_with_its_batch_size_order_and_answers(session, golden):
    graph = judged(session, golden)
    assert [run.batch for run in graph.runs] == [5, 1, 1, 2, 2, 5, 5]
    for run in graph.runs:
        np.testing.assert_allclose(run.logits, golden.logits[run.samples], atol=1e-6)
    assert graph.runs[0].samples.tolist() == list(range(len(golden)))
    assert graph.runs[0].places.tolist() == [place % 5 for place in range(len(golden))]


def test_an_equal_graph_has_no_problem_at_any_batch_size_or_place(session, golden):
    graph = judged(session, golden)
    assert graph.problems == ()
    assert [(one.batch, one.agreement) for one in graph.by_batch()] == [(1, 1.0), (2, 1.0), (5, 1.0)]
    assert all(one.max_abs_difference < 1e-6 for one in graph.by_batch())
    assert [(one.batch, one.place) for one in graph.by_place()] == [
        (batch, place) for batch in BATCHES for place in range(batch)
    ]


def test_what_is_wrong_at_one_place_of_one_batch_size_is_shown_there_alone(session, golden):
    graph = judged(session, golden, wrong_at_the_second_of_two)
    wrong = [(one.batch, one.place) for one in graph.by_place() if one.agreement < 1]
    assert wrong == [(2, 1)]
    assert [one.batch for one in graph.by_batch() if one.agreement < 1] == [2]
    worst = graph.worst(3)
    assert {int(graph.batches[sample]) for sample in worst} == {2}
    assert all(graph.kept_margins[sample] < 0 for sample in worst)
    margins = [graph.margins[sample] for sample in worst]
    assert margins == sorted(margins, reverse=True)


def test_the_worst_samples_without_a_flip_are_those_furthest_off(session, golden):
    def shift(logits, inputs):
        return logits + inputs["spatial_features"][:, :1] * np.float32(1e-3)

    graph = judged(session, golden, shift)
    assert graph.worst(1) == [int(golden.inputs["spatial_features"][:, 0].argmax())]
    assert not (graph.kept_margins < 0).any()


def written(path, graph):
    ReportFiles([path], path.with_name("best.onnx")).add(graph)
    return path.read_text(encoding="utf-8")


def test_the_page_needs_nothing_but_itself_and_shows_the_worst_samples(session, golden, tmp_path):
    page = written(tmp_path / "report.html", judged(session, golden, wrong_at_the_second_of_two))
    assert re.findall(r"<(?:script|link|iframe)|(?:src|href)=\"(?!data:)|url\(|@import", page) == []
    assert page.count('<img src="data:image/jpeg;base64,') == 3 * 12
    assert page.count("<svg") == 3
    assert "failed</span>" in page
    assert "Batch 2:" in page
    assert "Worst samples (12 of 40)" in page
    for label in LABELS:
        assert label in page


def test_a_page_of_a_graph_that_holds_says_so(session, golden, tmp_path):
    page = written(tmp_path / "report.html", judged(session, golden))
    assert "holds</span>" in page
    assert "failed</span>" not in page
    assert "No decision differs" in page
    assert "100.00% of 40" in page


def test_samples_without_a_label_are_shown_as_unknown(session, golden, tmp_path):
    unlabelled = dataclasses.replace(golden, labels=np.full(len(golden), UNLABELLED))
    page = written(tmp_path / "report.html", judged(session, unlabelled))
    assert "true label unknown" in page
    assert "no labels" in page


def test_the_json_holds_every_sample_place_and_flip(session, golden, tmp_path):
    document = json.loads(written(tmp_path / "report.json", judged(session, golden, wrong_at_the_second_of_two)))
    assert document["ok"] is False
    (graph,) = document["graphs"]
    assert len(graph["samples"]["logits"]) == len(graph["samples"]["reference_logits"]) == 40
    assert len(graph["places"]) == 8
    assert graph["golden"]["tolerances"]["argmax_agreement"] == 1
    assert len(graph["golden"]["flips"]) == graph["golden"]["flip_count"] > 3
    assert graph["problems"][0].startswith("Batch 2:")


def test_logits_that_are_not_finite_are_told_and_not_drawn(session, golden, tmp_path):
    def broken(logits, inputs):
        return logits * np.float32(np.nan)

    graph = judged(session, golden, broken)
    (plain,) = json.loads(written(tmp_path / "report.json", graph))["graphs"]
    assert plain["samples"]["logits"][0] == [None] * 5
    assert plain["batches"][0]["max_abs_difference"] is None
    assert "not finite" in written(tmp_path / "report.html", graph)
    assert "nan" not in logit_scatter(graph) + margin_scatter(graph, 0.1) + place_grid(graph.by_place())


def test_flips_beyond_the_tolerance_are_red_and_others_are_not(session, golden):
    graph = judged(session, golden, wrong_at_the_second_of_two)
    assert "#c2402e" in margin_scatter(graph, 0.1)
    assert "#c2402e" not in margin_scatter(graph, 1e9)
    assert "#c2402e" not in margin_scatter(graph, None)


def test_a_report_of_another_kind_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(UsageError, match=r"\*\.html or \*\.json"):
        ReportFiles([tmp_path / "report.pdf"], tmp_path / "best.onnx")


def test_a_report_that_cannot_be_written_is_told_before_anything_runs(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        ReportFiles([tmp_path / "file" / "report.html"], tmp_path / "best.onnx")


def test_verify_writes_its_reports_also_when_parity_fails(session, golden, tmp_path):
    model = tiny_model(tmp_path / "best.onnx")
    dataclasses.replace(golden, logits=golden.logits + np.float32(0.5)).save(tmp_path / "best.golden.npz")
    page, document = tmp_path / "new" / "report.html", tmp_path / "report.json"
    done = CliRunner().invoke(
        verify,
        [str(model), "--backend", "onnxruntime", "--batch", "1,4", "--report", str(page), "--report", str(document)],
    )
    assert done.exit_code == 7
    assert "failed</span>" in page.read_text()
    assert [one["batch"] for one in json.loads(document.read_text())["graphs"][0]["batches"]] == [1, 4]


def test_verify_says_where_its_report_is(session, golden, tmp_path):
    model = tiny_model(tmp_path / "best.onnx")
    golden.save(tmp_path / "best.golden.npz")
    done = CliRunner().invoke(verify, [str(model), "--batch", "1,4", "--report", str(tmp_path / "report.html")])
    assert done.exit_code == 0, done.output
    assert f"Report: {tmp_path / 'report.html'}" in done.stdout
