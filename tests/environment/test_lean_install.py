"""Inference where training is absent: a virtual environment that holds `cb-toolkit[onnx]` and nothing more."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "cb_runtime"))

from tiny_models import CAPTION, EMPTY, REGION_TEXT, bright_video, levels_of, tiny_model  # noqa: E402

ABSENT = ("torch", "torchvision", "sqlalchemy", "onnx", "peft", "accelerate", "PIL", "rapidocr")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lean(tmp_path_factory):
    """Return the `bin` folder of a new environment with the wheel of this tree and the extra `onnx`."""
    folder = tmp_path_factory.mktemp("lean")
    source = folder / "source"
    ignored = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "results")
    shutil.copytree(ROOT, source, ignore=ignored)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    binaries = folder / "venv" / "bin"
    subprocess.run([binaries / "pip", "install", "-q", f"{source}[onnx]"], check=True, cwd=folder)
    return binaries


def run(lean, *command, **options):
    return subprocess.run([lean / command[0], *command[1:]], capture_output=True, text=True, check=False, **options)


@pytest.mark.parametrize("module", ABSENT)
def test_what_training_needs_is_really_absent(lean, module):
    assert "ModuleNotFoundError" in run(lean, "python", "-c", f"import {module}").stderr


def test_the_runtime_imports(lean):
    assert run(lean, "python", "-c", "import cb_runtime; cb_runtime.BoundaryPredictor").returncode == 0


def test_infer_finds_the_captions_of_a_video(lean, tmp_path):
    model = tiny_model(tmp_path / "tiny.onnx")
    video = bright_video(tmp_path / "film.mp4", levels_of((EMPTY, 10), (CAPTION, 10), (EMPTY, 10)))
    options = ["--checkpoint", str(model), "--region", REGION_TEXT, "--format", "json,srt", "--output", str(tmp_path)]
    done = run(lean, "cb", "infer", str(video), *options)
    assert done.returncode == 0, done.stderr
    (segment,) = json.loads((tmp_path / "film.json").read_text())["segments"]
    assert (segment["start_frame"], segment["end_frame"]) == (10, 20)
    assert "00:00:00,400 --> 00:00:00,800" in (tmp_path / "film.srt").read_text()


def test_the_model_in_the_box_came_along(lean, tmp_path):
    verified = run(lean, "cb", "verify", "--batch", "16", "--json")
    assert verified.returncode == 0, verified.stderr
    video = bright_video(tmp_path / "film.mp4", levels_of((EMPTY, 10)))
    done = run(lean, "cb", "infer", str(video), "--region", REGION_TEXT, "--output", str(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    model = json.loads(done.stdout)["model"]
    assert (model["name"], model["architecture"]) == ("default.onnx", "aligned_comparison")


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (["models"], "train"),
        (["train", "x.db", "--name", "x", "--architecture", "compact_aligned_resnet"], "train"),
        (["dataset", "create", "x.db", "--videos", "."], "train"),
        (["synth", "out", "--videos", "1"], "train"),
        (["experiments", "list", "x.db"], "train"),
        (["demo"], "train"),
        (["evaluate", "--videos", "."], "train"),
        (["tune", "--videos", ".", "--output", "x.json"], "train"),
        (["export", "--checkpoint", "best.pt", "--format", "onnx", "--output", "x.onnx"], "train"),
        (["infer", "film.mp4", "--checkpoint", "best.pt"], "train"),
    ],
)
def test_a_command_of_an_absent_extra_says_what_to_install(lean, tmp_path, command, extra):
    for name in ("film.mp4", "best.pt", "x.db"):
        (tmp_path / name).write_bytes(b"")
    done = run(lean, "cb", *command, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert f"pip install 'cb-toolkit[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_works_everywhere(lean):
    assert "demo" in run(lean, "cb", "--help").stdout


def test_doctor_works_everywhere(lean):
    done = run(lean, "cb", "doctor", "--json")
    assert done.returncode == 0, done.stderr
    assert "torch" in json.dumps(json.loads(done.stdout))
