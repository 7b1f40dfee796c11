"""The staged graph beside an artifact: exported with it, opened with it, and deciding as it does."""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from tiny_late_fusions import ROLES, tiny_late_fusion, write_late_fusion
from tiny_pairs import random_inputs, write_run

from cb_core import registry
from cb_export.cli.export import export
from cb_export.pipeline import ExportOptions, export_checkpoint
from cb_export.targets import onnx as onnx_target
from cb_runtime import files
from cb_runtime.cli import main
from cb_runtime.errors import ContractError, ParityError, UsageError
from cb_runtime.features import VideoInputs
from cb_runtime.files import sha256_of_file
from cb_runtime.package.writing import package_artifacts
from cb_runtime.parity import golden_path, load_golden_samples, verify_session
from cb_runtime.predictor import BoundaryPredictor
from cb_runtime.scoring import score_strips
from cb_runtime.session import open_session
from cb_runtime.stages import Stages, stages_path


@pytest.fixture(autouse=True)
def tiny_late_fusions(tiny_architecture, monkeypatch):
    monkeypatch.setattr(registry, "_factories", {**registry._factories, "tiny_late_fusion": tiny_late_fusion})


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    """An artifact with its staged graph for each kind, not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        registry.list_architectures()
        patch.setattr(registry, "_factories", {**registry._factories, "tiny_late_fusion": tiny_late_fusion})
        folder = tmp_path_factory.mktemp("runs")
        return {kind: export_checkpoint(write_late_fusion(folder / kind, kind)).path for kind in ROLES}


@pytest.fixture(params=list(ROLES))
def artifact(request, artifacts):
    return artifacts[request.param]


@pytest.fixture
def checkpoint(tmp_path):
    return write_late_fusion(tmp_path / "run")


@pytest.fixture
def exported(artifacts, tmp_path):
    """A copy of an artifact with its staged graph, to be changed."""
    shutil.copytree(artifacts["frames"].parent, tmp_path / "copy")
    return tmp_path / "copy" / "best.onnx"


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def moving_strips(count, seed=0):
    return list(np.random.default_rng(seed).integers(0, 256, (count, 48, 480, 3), np.uint8))


def own_inputs(seed=1):
    inputs = random_inputs(1, seed)
    return VideoInputs(*(inputs[name][0] for name in ("ocr_viz", "spatial_features", "font_embedding")))


class Counted:
    """A part of a staged graph that counts the rows it is given."""

    def __init__(self, part):
        self.part, self.inputs, self.output, self.batches = part, part.inputs, part.output, []

    def run(self, feeds):
        self.batches.append(len(next(iter(feeds.values()))))
        return self.part.run(feeds)


def counted_session(artifact):
    session = open_session(artifact, device="cpu")
    stages = session.stages
    stages._encoders = {name: Counted(part) for name, part in stages._encoders.items()}
    stages._classifier = Counted(stages._classifier)
    return session


def test_a_late_fusion_is_exported_with_a_graph_per_encoder_and_a_classifier(artifact):
    manifest = json.loads((stages_path(artifact) / "stages.json").read_text())
    members = {"classifier.onnx", *(f"encoder_{name}.onnx" for name in manifest["roles"].values())}
    assert set(names(stages_path(artifact))) == {"stages.json", *members}
    assert names(artifact.parent) == ["best.golden.npz", "best.onnx", "best.pt", "best.staged"]
    assert manifest["artifact_sha256"] == sha256_of_file(artifact)
    assert manifest["members"] == {name: sha256_of_file(stages_path(artifact) / name) for name in members}
    assert manifest["parity"]["ok"] is True
    assert manifest["parity"]["golden"]["batches"] == [1, 16]


def test_each_graph_has_the_names_of_the_contract_the_opset_and_one_symbolic_batch_axis(artifact):
    for path in stages_path(artifact).glob("*.onnx"):
        model = onnx.load(path)
        values = [*model.graph.input, *model.graph.output]
        vectors = ["spatial_features", "font_embedding", "logits"]
        features = [f"{name}_features" for name in ("ocr_viz", "frame1", "frame2")]
        classifier = path.name == "classifier.onnx"
        assert [value.name for value in values] == ([*features, *vectors] if classifier else ["pictures", "features"])
        assert {value.type.tensor_type.shape.dim[0].dim_param for value in values} == {"batch"}
        assert model.opset_import[0].version == 20
        assert b".py" not in path.read_bytes()


def test_the_staged_graph_decides_as_the_golden_samples_say(artifact):
    session = open_session(artifact, device="cpu")
    golden = load_golden_samples(golden_path(artifact))
    assert verify_session(session.stages, golden, (1, 3, 16))
    inputs = random_inputs(5, seed=7)
    np.testing.assert_allclose(session.stages.run(inputs), session.run(inputs), atol=1e-4)


@pytest.mark.parametrize("distances", [(1,), (1, 2, 3), (1, 3)])
@pytest.mark.parametrize("batch_size", [1, 4, 7, 64])
def test_scores_with_reuse_are_the_scores_without(artifact, distances, batch_size):
    with_reuse, without = open_session(artifact, device="cpu"), open_session(artifact, device="cpu", reuse=False)
    options = {"distances": distances, "batch_size": batch_size}
    for frames in (0, 1, 2, 3, 9):
        strips = moving_strips(frames)
        found = score_strips(with_reuse, iter(strips), own_inputs(), **options)
        wanted = score_strips(without, iter(strips), own_inputs(), **options)
        assert found.distances == wanted.distances
        for distance in distances:
            for way in ("forward_at", "backward_at"):
                one, other = getattr(found, way)[distance], getattr(wanted, way)[distance]
                assert one.shape == other.shape == (max(frames - distance, 0), 5)
                np.testing.assert_array_equal(one.argmax(axis=1), other.argmax(axis=1))
                np.testing.assert_allclose(np.log(one), np.log(other), atol=1e-4)


def test_every_strip_passes_each_encoder_once_and_pairs_come_in_full_batches(artifact):
    session = counted_session(artifact)
    score_strips(session, iter(moving_strips(9)), own_inputs(), batch_size=4)
    roles, encoders = session.stages.roles, session.stages._encoders
    for name, encoder in encoders.items():
        serves_frames = name in (roles["frame1"], roles["frame2"])
        assert sum(encoder.batches) == 9 * serves_frames + (name == roles["ocr_viz"])
    assert session.stages._classifier.batches == [4] * 10 + [2], "the 42 pairs in batches of four"


def test_a_strip_may_be_overwritten_once_the_next_is_asked_for(artifact):
    def reused():
        strip = np.empty((48, 480, 3), np.uint8)
        for picture in moving_strips(6):
            strip[...] = picture
            yield strip

    session = open_session(artifact, device="cpu")
    found = score_strips(session, reused(), own_inputs(), batch_size=4)
    wanted = score_strips(session, moving_strips(6), own_inputs(), batch_size=4)
    np.testing.assert_array_equal(found.forward_at[3], wanted.forward_at[3])


def test_verify_runs_the_staged_graph_too(artifacts, exported, monkeypatch):
    done = CliRunner().invoke(main, ["verify", str(artifacts["triple"]), "--batch", "1,4"])
    assert done.exit_code == 0, done.output
    assert "In stages: Parity holds" in done.stdout
    classify = Stages.classify
    monkeypatch.setattr(Stages, "classify", lambda self, inputs: classify(self, inputs) + np.float32(1))
    done = CliRunner().invoke(main, ["verify", str(exported), "--batch", "1,4", "--json"])
    assert done.exit_code == 7
    document = json.loads(done.stdout)
    assert document["parity"]["ok"] is True
    assert document["staged"]["ok"] is False


def test_a_session_says_whether_features_are_reused_and_can_do_without(artifact):
    assert open_session(artifact).describe()["features_reused"] is True
    without = open_session(artifact, reuse=False)
    assert without.stages is None
    assert without.describe()["features_reused"] is False
    assert open_session(artifact.with_suffix(".pt")).describe()["features_reused"] is False
    assert BoundaryPredictor(artifact).model["features_reused"] is True
    assert BoundaryPredictor(artifact, reuse=False).model["features_reused"] is False


def test_the_stages_take_what_the_contract_says_and_nothing_else(artifact):
    stages = open_session(artifact, device="cpu", threads=1).stages
    assert stages.encode("frame1", np.zeros((0, 48, 480, 3), np.uint8)).shape == (0, 2, 6, 60)
    with pytest.raises(ContractError, match=r"'pictures' must be uint8 \(batch, 48, 480, 3\), got uint8 \(1, 3"):
        stages.encode("frame1", np.zeros((1, 3, 48, 480), np.uint8))
    with pytest.raises(UsageError, match=r"Unknown role 'frame3'. Choose one of ocr_viz, frame1, frame2"):
        stages.encode("frame3", np.zeros((1, 48, 480, 3), np.uint8))
    with pytest.raises(ContractError, match="takes inputs ocr_viz_features, frame1_features"):
        stages.classify({})


def test_the_predictor_reports_a_staged_graph_of_another_artifact(exported, artifacts):
    shutil.copy(artifacts["triple"], exported)
    with pytest.raises(ContractError, match=r"exported with another artifact.*cb export.*rm -r .*best\.staged"):
        open_session(exported)
    assert open_session(exported, reuse=False).stages is None


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("classifier.onnx", b"changed", r"classifier\.onnx was changed or damaged"),
        ("encoder_ocr.onnx", None, r"encoder_ocr\.onnx is missing"),
        ("stages.json", None, r"stages\.json cannot be used"),
        ("stages.json", b"{", r"stages\.json cannot be used"),
        ("stages.json", b"[]", r"stages\.json cannot be used"),
    ],
)
def test_a_staged_graph_that_is_not_as_it_was_exported_is_an_error(exported, name, content, says):
    member = stages_path(exported) / name
    member.unlink() if content is None else member.write_bytes(content)
    with pytest.raises(ContractError, match=rf"{says}.*delete the folder"):
        open_session(exported)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("schema", 2, "schema must be 1, got 2"),
        ("roles", {"frame1": "../../x"}, "roles must name an encoder"),
        ("members", {}, "members must be classifier, encoder_frame"),
    ],
)
def test_a_list_of_stages_that_breaks_the_contract_is_an_error(exported, key, value, says):
    manifest = stages_path(exported) / "stages.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), key: value}))
    with pytest.raises(ContractError, match=says):
        open_session(exported)


def test_a_package_holds_the_staged_graph_too_and_checks_it(artifacts, tmp_path):
    artifact = next(iter(artifacts.values()))
    place = tmp_path / "best.cbx"
    package_artifacts(place, [artifact])
    described = open_session(place).describe()
    assert described["features_reused"] is True
    assert open_session(place, reuse=False).stages is None


def test_without_its_folder_an_artifact_is_opened_without_reuse(exported):
    shutil.rmtree(stages_path(exported))
    assert open_session(exported).stages is None


def test_an_export_without_stages_takes_those_of_an_older_artifact_away(exported):
    result = export_checkpoint(exported.with_suffix(".pt"), options=ExportOptions(staged=False))
    assert result.staged is None
    assert names(exported.parent) == ["best.golden.npz", "best.onnx", "best.pt"]


def test_an_export_replaces_the_stages_of_an_older_artifact(artifacts, tmp_path):
    service = tmp_path / "service"
    shutil.copytree(stages_path(artifacts["triple"]), service / "best.staged")
    result = export_checkpoint(artifacts["frames"].with_suffix(".pt"), service / "best.onnx")
    assert result.staged
    assert names(service) == ["best.golden.npz", "best.onnx", "best.staged"]
    assert names(service / "best.staged") == [
        "classifier.onnx",
        "encoder_frame.onnx",
        "encoder_ocr.onnx",
        "stages.json",
    ]
    assert open_session(result.path).stages is not None


def wrong_classifier(graph, opset, right=onnx_target._onnx_from_graph):
    model = right(graph, opset)
    if graph.inputs[0].name == "ocr_viz_features":
        for tensor in model.graph.initializer:
            if tensor.name.endswith("decide.bias"):
                tensor.raw_data = np.full(5, 3, np.float32).tobytes()[:4] + tensor.raw_data[4:]
    return model


def test_stages_that_decide_otherwise_than_pytorch_are_refused_and_the_older_ones_stay(exported, monkeypatch):
    before = {path.name: path.read_bytes() for path in stages_path(exported).iterdir()}
    monkeypatch.setattr(onnx_target, "_onnx_from_graph", wrong_classifier)
    told = []
    with pytest.raises(ParityError, match=r"staged graph does not agree.*nothing was published"):
        export_checkpoint(exported.with_suffix(".pt"), options=ExportOptions(on_judged=told.append))
    assert [(graph.title, not graph.problems) for graph in told] == [("Artifact", True), ("Staged graph", False)]
    assert {path.name: path.read_bytes() for path in stages_path(exported).iterdir()} == before
    assert open_session(exported).stages is not None
    assert names(exported.parent) == ["best.golden.npz", "best.onnx", "best.pt", "best.staged"]


def test_stages_that_fail_may_be_published_on_request_with_a_warning(checkpoint, monkeypatch):
    monkeypatch.setattr(onnx_target, "_onnx_from_graph", wrong_classifier)
    done = CliRunner().invoke(export, ["--checkpoint", str(checkpoint), "--allow-parity-failure"])
    assert done.exit_code == 0, done.output
    assert "The staged graph was published although it failed" in done.stderr
    manifest = stages_path(checkpoint) / "stages.json"
    assert json.loads(manifest.read_text())["parity"]["ok"] is False


def test_an_export_interrupted_before_the_artifact_has_its_name_is_noticed(exported, artifacts, tmp_path, monkeypatch):
    service = tmp_path / "service" / "best.onnx"
    shutil.copytree(exported.parent, service.parent)
    service.with_suffix(".pt").unlink()
    replaced = files._replace_folder

    def interrupted(final, temporary):
        replaced(final, temporary)
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "_replace_folder", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_checkpoint(artifacts["triple"].with_suffix(".pt"), service)
    with pytest.raises(ContractError, match="exported with another artifact"):
        open_session(service)


def test_a_folder_that_is_no_staged_graph_is_never_replaced(checkpoint):
    folder = stages_path(checkpoint)
    folder.mkdir()
    (folder / "mine.txt").write_text("kept")
    with pytest.raises(UsageError, match=r"best\.staged has no stages\.json.*Move it away"):
        export_checkpoint(checkpoint)
    assert (folder / "mine.txt").read_text() == "kept"


def test_stages_asked_for_where_frames_are_not_encoded_apart_are_refused(tmp_path):
    checkpoint = write_run(tmp_path / "pairs")
    done = CliRunner().invoke(export, ["--checkpoint", str(checkpoint), "--staged"])
    assert done.exit_code == 2
    assert "tiny_pairs cannot be exported in stages" in done.stderr
    assert not checkpoint.with_suffix(".onnx").exists()


def test_the_command_says_where_the_stages_are(checkpoint):
    done = CliRunner().invoke(export, ["--checkpoint", str(checkpoint), "--json"])
    assert json.loads(done.stdout)["staged"] == str(stages_path(checkpoint))
    done = CliRunner().invoke(export, ["--checkpoint", str(checkpoint), "--no-staged"])
    assert done.exit_code == 0
    assert not stages_path(checkpoint).exists()
