"""The direction of imports: what static analysis cannot see, seen from a running interpreter."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "sqlalchemy", "alembic", "onnx", "peft", "accelerate", "PIL", "cb_core", "cb_export")


def modules_after(code):
    script = f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"
    return set(
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    )


def leaf_modules():
    import pkgutil

    import cb_runtime

    return sorted(module.name for module in pkgutil.walk_packages(cb_runtime.__path__, "cb_runtime."))


def test_every_module_of_the_leaf_imports_nothing_heavy():
    loaded = modules_after("\n".join(f"import {name}" for name in leaf_modules()))
    assert loaded.isdisjoint(HEAVY)


def test_the_facade_of_the_leaf_is_light():
    loaded = modules_after("import cb_runtime")
    assert loaded.isdisjoint((*HEAVY, "onnxruntime", "rapidocr"))


def test_help_imports_neither_torch_nor_an_engine_nor_a_decoder():
    loaded = modules_after(
        "import sys\nfrom click.testing import CliRunner\nfrom cb_runtime.cli import main\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0"
    )
    assert loaded.isdisjoint(("torch", "sqlalchemy", "onnxruntime", "onnx", "av", "cv2", "numpy"))


def test_pairs_are_scored_without_opencv_and_without_a_decoder():
    code = "from cb_runtime import BoundaryPredictor\nfrom cb_runtime.models import default_model_path\n"
    code += "from cb_runtime.golden import golden_path, load_golden_samples\n"
    code += "few = load_golden_samples(golden_path(default_model_path())).sample(1)\n"
    code += "BoundaryPredictor(default_model_path(), backend='onnxruntime', device='cpu').predict_pairs(few.inputs)"
    loaded = modules_after(code)
    assert "onnxruntime" in loaded
    assert loaded.isdisjoint((*HEAVY, "cv2", "av"))


@pytest.mark.parametrize("package", ["cb_core", "cb_export"])
def test_importing_a_package_imports_no_torch(package):
    assert "torch" not in modules_after(f"import {package}")


def test_training_knows_no_exporter():
    assert modules_after("import cb_core.training, cb_core.data, cb_core.registry").isdisjoint(("cb_export", "onnx"))
