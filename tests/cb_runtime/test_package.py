"""Packages: a changed byte is refused, the best artifact is taken, answers are checked, signatures mean something."""

import dataclasses
import hashlib
import json
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner
from test_parity import golden_of
from test_session import pair_inputs
from tiny_models import tiny_model

from cb_runtime.backends import package as package_backend
from cb_runtime.cli import main
from cb_runtime.contract import ModelMetadata
from cb_runtime.errors import ContractError, ModelError, ParityError, StorageError, UsageError
from cb_runtime.package import Artifact, Manifest, Member, archive, open_package, write_archive
from cb_runtime.package.manifest import manifest_from_bytes
from cb_runtime.package.self_check import check_answers
from cb_runtime.predictor import BoundaryPredictor
from cb_runtime.session import open_session

CONTRACT = ModelMetadata("tiny", checkpoint_sha256="a" * 64)


def manifest_of(contents, artifacts):
    members = {name: Member(hashlib.sha256(content).hexdigest(), len(content)) for name, content in contents.items()}
    return Manifest(CONTRACT, tuple(artifacts), members, "2026-01-01", "cb-toolkit test")


def write_package(path, folder, precisions=("fp32",), contract=CONTRACT, shift=0.0):
    """Write a package of tiny models; returns its path."""
    contents = {"README.md": b"# card"}
    model = tiny_model(folder / "model.onnx", contract)
    golden = golden_of(open_session(model))
    dataclasses.replace(golden, logits=golden.logits + np.float32(shift)).save(folder / "golden.npz")
    contents["golden.npz"] = (folder / "golden.npz").read_bytes()
    for precision in precisions:
        tiny_model(model, contract.replace(precision=precision))
        contents[f"onnx-{precision}/model.onnx"] = model.read_bytes()
    artifacts = [Artifact(f"onnx-{precision}/model.onnx", precision) for precision in precisions]
    write_archive(path, {"manifest.json": manifest_of(contents, artifacts).to_bytes(), **contents})
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("package")
    return write_package(folder / "best.cbx", folder).read_bytes()


@pytest.fixture
def packed(whole, tmp_path):
    path = tmp_path / "best.cbx"
    path.write_bytes(whole)
    return path


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def rewritten(path, change):
    """Write a package again after a change of its members and of its manifest, as somebody who knows the format."""
    with zipfile.ZipFile(path) as file:
        contents = {name: file.read(name) for name in file.namelist()}
    write_archive(path, change(contents))
    return path


def test_a_predictor_opens_a_package_says_what_it_took_and_that_it_checked_it(packed):
    model = BoundaryPredictor(packed, "cpu").model
    assert model["artifact"] == "onnx-fp32/model.onnx"
    assert model["reason"].startswith("onnx-fp32 is the only one of 1 artifacts for a CPU; as asked")
    assert model["self_checked"] == 10
    inputs = pair_inputs(20, 200)
    assert open_session(packed).probabilities(inputs)[0].argmax() == 3


def test_nothing_unpacked_is_left_behind(packed, tmp_path, monkeypatch):
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    session = open_session(packed)
    assert list(place.iterdir()) == []
    assert session.run(pair_inputs(20, 20)).shape == (1, 5)


def test_a_place_that_cannot_be_unpacked_to_is_named_with_tmpdir(packed, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(StorageError, match="Set TMPDIR"):
        open_session(packed)


def test_a_changed_byte_is_refused_wherever_it_is(whole, packed):
    with zipfile.ZipFile(packed) as file:
        spans = [(info.header_offset, info.header_offset + 30 + len(info.filename)) for info in file.infolist()]
        spans.append((file.start_dir, len(whole)))
    places = {at for start, stop in spans for at in range(start, stop)} | set(range(0, len(whole), 9973))
    taken = []
    for at in sorted(places):
        packed.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            open_package(packed)
        except ModelError:
            continue
        taken.append(at)
    assert taken == []


@pytest.mark.parametrize("keep", [0, 10, 0.5, -1])
def test_a_package_that_was_cut_is_refused_with_what_to_do(whole, packed, keep):
    packed.write_bytes(whole[: int(len(whole) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(ModelError, match=r"refused.*Copy it again from where it was written"):
        open_package(packed)


def test_something_before_or_behind_the_archive_is_refused(whole, packed):
    for content in (b"x" + whole, whole + b"x"):
        packed.write_bytes(content)
        with pytest.raises(ModelError, match="refused"):
            open_package(packed)


def test_a_missing_package_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"no\.cbx does not exist"):
        open_package(tmp_path / "no.cbx")


def test_members_that_the_manifest_does_not_know_or_that_are_missing_are_refused(packed, whole):
    rewritten(packed, lambda contents: {**contents, "more.txt": b""})
    with pytest.raises(ModelError, match=r"'more\.txt' is in it, and not in its manifest"):
        open_package(packed)
    packed.write_bytes(whole)
    rewritten(packed, lambda contents: {name: contents[name] for name in contents if name != "README.md"})
    with pytest.raises(ModelError, match=r"README\.md is missing"):
        open_package(packed)


def test_a_member_that_was_exchanged_with_a_right_checksum_is_refused(packed):
    rewritten(packed, lambda contents: {**contents, "README.md": b"# lies"})
    with pytest.raises(ModelError, match=r"README\.md is not the file that was packed"):
        open_package(packed)


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "a\\evil", ".hidden", "manifest.sig", ""])
def test_a_name_that_leads_elsewhere_is_refused(name):
    contents = {"README.md": b"", "golden.npz": b"", "a/m.onnx": b"", name: b""}
    with pytest.raises(ContractError, match="may not be called"):
        manifest_of(contents, [Artifact("a/m.onnx", "fp32")])


@pytest.mark.parametrize(
    ("artifacts", "says"),
    [
        ([], "names no artifact"),
        ([Artifact("m.onnx", "fp32")], "folder of its own"),
        ([Artifact("a/m.onnx", "fp32"), Artifact("a/n.onnx", "int8")], "folder of its own"),
        ([Artifact("b/m.onnx", "fp32")], "not among the members"),
    ],
)
def test_a_manifest_whose_artifacts_cannot_be_is_refused(artifacts, says):
    contents = {"README.md": b"", "golden.npz": b"", "a/m.onnx": b"", "a/n.onnx": b"", "m.onnx": b""}
    with pytest.raises(ContractError, match=says):
        manifest_of(contents, artifacts)


def test_a_manifest_of_another_schema_or_form_is_refused(packed):
    content = open_package(packed).manifest.to_bytes()
    assert manifest_from_bytes(content).to_bytes() == content
    values = json.loads(content)
    for changed, says in (
        ({**values, "schema": 2}, "schema is 2"),
        ({**values, "x": 1}, "malformed"),
        ([], "malformed"),
    ):
        with pytest.raises(ContractError, match=says):
            manifest_from_bytes(json.dumps(changed).encode())
    member = {"sha256": "x", "size": 1}
    with pytest.raises(ContractError, match="no digest"):
        manifest_from_bytes(json.dumps({**values, "members": {"a": member}}).encode())


def test_a_package_beyond_the_limit_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "LARGEST", 10)
    with pytest.raises(ModelError, match="Put fewer artifacts"):
        write_archive(tmp_path / "a.cbx", {"a": b"x" * 11})


def test_a_model_that_answers_otherwise_on_this_machine_is_not_opened(tmp_path):
    package = write_package(tmp_path / "best.cbx", tmp_path, shift=0.5)
    with pytest.raises(ParityError, match=r"does not answer here as PyTorch did: logits differ by 0\.5"):
        open_session(package)


@pytest.mark.parametrize(("wrong", "says"), [(np.nan, "not a finite"), (-1, "where PyTorch was sure")])
def test_the_check_sees_broken_answers_and_wrong_decisions(packed, wrong, says):
    session, golden = open_session(packed), open_package(packed).golden()

    class Broken:
        def run(self, inputs):
            return session.run(inputs) * np.float32(wrong)

    with pytest.raises(ParityError, match=says):
        check_answers("best.cbx", {"graph": Broken()}, golden, "int8")


def test_the_artifact_of_another_checkpoint_is_refused(packed, monkeypatch):
    right = open_package(packed)
    contract = CONTRACT.replace(checkpoint_sha256="b" * 64)
    wrong = dataclasses.replace(right, manifest=dataclasses.replace(right.manifest, contract=contract))
    monkeypatch.setattr(package_backend, "open_package", lambda path, key: wrong)
    with pytest.raises(ContractError, match="of another checkpoint"):
        open_session(packed)


def test_what_cannot_be_opened_is_told_and_the_next_is_taken(tmp_path, monkeypatch):
    package = write_package(tmp_path / "best.cbx", tmp_path, ("int8", "fp32"))
    right = package_backend._open_inner

    def broken(package, artifact, attempt, options):
        if attempt.artifact.precision == "int8":
            raise ModelError("no int8 here")
        return right(package, artifact, attempt, options)

    assert open_session(package).describe()["artifact"] == "onnx-int8/model.onnx"
    monkeypatch.setattr(package_backend, "_open_inner", broken)
    described = open_session(package).describe()
    assert described["artifact"] == "onnx-fp32/model.onnx"
    assert described["reason"].endswith("tried before: no int8 here")


def test_the_engine_and_the_precision_asked_for_run_what_is_in_a_package(tmp_path):
    pytest.importorskip("openvino")
    package = write_package(tmp_path / "best.cbx", tmp_path, ("int8", "fp32"))
    described = open_session(package, backend="openvino", precision="fp32", threads=1).describe()
    assert (described["artifact"], described["backend"]) == ("onnx-fp32/model.onnx", "openvino")
    assert described["self_checked"] == 10
    with pytest.raises(
        ModelError, match=r"precision fp16; it holds onnx-int8, onnx-fp32\. Choose another --device, --prec"
    ):
        open_session(package, precision="fp16")
    with pytest.raises(ModelError, match="nothing that runs here on device auto, backend tensorrt"):
        open_session(package, backend="tensorrt")


def test_a_package_without_anything_for_the_device_says_what_it_holds_and_what_was_tried(tmp_path):
    package = write_package(tmp_path / "best.cbx", tmp_path, ("int8", "fp32"))
    with pytest.raises(ModelError, match=r"nothing that runs here on device cuda; it holds onnx-int8, onnx-fp32"):
        open_session(package, device="cuda")


def test_an_error_of_the_engine_names_the_package_and_not_a_temporary_folder(tmp_path):
    contents = {"README.md": b"", "golden.npz": b"", "a/m.onnx": b"no model"}
    manifest = manifest_of(contents, [Artifact("a/m.onnx", "fp32")])
    write_archive(tmp_path / "best.cbx", {"manifest.json": manifest.to_bytes(), **contents})
    with pytest.raises(ModelError, match=r"best\.cbx/a/m\.onnx cannot be opened"):
        open_session(tmp_path / "best.cbx")


@pytest.fixture
def keys(tmp_path):
    assert run("package", "keygen", tmp_path / "mine").exit_code == 0
    return tmp_path / "mine.key", tmp_path / "mine.pub"


def test_a_signature_is_made_and_checked(packed, keys):
    private, public = keys
    assert private.stat().st_mode & 0o077 == 0
    before = open_package(packed)
    assert run("package", "sign", packed, "--key", private).exit_code == 0
    done = json.loads(run("package", "verify", packed, "--public-key", public, "--json").stdout)
    assert (done["ok"], done["signed"], done["digest"]) == (True, True, before.digest)
    assert BoundaryPredictor(packed, public_key=public).model["signer"] == done["signer"]
    assert open_package(packed).manifest == before.manifest
    assert run("package", "sign", packed, "--key", private).exit_code == 0
    assert open_package(packed, public).signed


def test_packages_not_signed_or_signed_by_others_are_refused(packed, keys, tmp_path):
    _, public = keys
    with pytest.raises(ModelError, match="is not signed, and a public key was given"):
        open_session(packed, public_key=public)
    run("package", "keygen", tmp_path / "other")
    run("package", "sign", packed, "--key", tmp_path / "other.key")
    result = run("package", "verify", packed, "--public-key", public)
    assert result.exit_code == 4
    assert "its signature is not by the key" in result.stderr


def test_a_signed_package_whose_manifest_was_rewritten_is_refused(packed, keys):
    private, public = keys
    run("package", "sign", packed, "--key", private)

    def lie(contents):
        text = contents["manifest.json"].replace(b"cb-toolkit test", b"cb-toolkit none")
        return {**contents, "manifest.json": text}

    rewritten(packed, lie)
    assert open_package(packed).signed
    with pytest.raises(ModelError, match="its signature is not by the key"):
        open_package(packed, public)


def test_keys_that_cannot_be_used_are_refused(packed, keys, tmp_path):
    _, public = keys
    with pytest.raises(UsageError, match="cannot be read as a public key"):
        open_package(packed, tmp_path / "no.pub")
    assert run("package", "sign", packed, "--key", public).exit_code == 2
    again = run("package", "keygen", tmp_path / "mine")
    assert again.exit_code == 2
    assert "is there already" in again.stderr


def test_a_key_of_another_kind_is_refused(packed, tmp_path):
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = X25519PrivateKey.generate().public_key()
    (tmp_path / "x.pub").write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(UsageError, match="holds a key of another kind"):
        open_package(packed, tmp_path / "x.pub")


def test_a_public_key_for_what_is_no_package_is_refused(tmp_path):
    with pytest.raises(UsageError, match="A public key is for packages"):
        open_session(tiny_model(tmp_path / "m.onnx"), public_key="x.pub")


def test_inspect_and_verify_take_packages(packed):
    document = json.loads(run("inspect", packed, "--json").stdout)
    assert document["file"]["artifacts"] == "onnx-fp32/model.onnx"
    assert document["file"]["members"]["onnx-fp32/model.onnx"] > 1000
    assert document["layers"].keys() == {"onnx-fp32/model.onnx"}
    assert document["metadata"]["architecture_name"] == "tiny"
    result = run("verify", packed, "--batch", "1,2")
    assert result.exit_code == 0, result.output
    assert "Parity holds at fp32" in result.stdout
