"""Errors of the user's side: exit codes, JSON form, missing packages."""

import sys

import pytest

from cb_runtime import errors
from cb_runtime.errors import CbError, MissingPackageError, error_to_dict, require
from cb_runtime.geometry import Box


def test_exit_codes_are_those_of_the_readme():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CbError)]
    codes = {kind.__name__: kind.exit_code for kind in kinds if kind is not CbError}
    assert codes == {
        "UsageError": 2,
        "MissingPackageError": 2,
        "InputError": 3,
        "StorageError": 3,
        "ModelError": 4,
        "ContractError": 4,
        "NoCaptionsError": 5,
        "PartialResultError": 6,
        "ParityError": 7,
    }


def test_the_json_form_has_type_message_and_exit_code():
    assert error_to_dict(errors.InputError("no")) == {"error": {"type": "InputError", "message": "no", "exit_code": 3}}


@pytest.mark.parametrize("module", sorted(errors.EXTRA_OF_MODULE))
def test_a_missing_package_is_answered_with_its_extra(module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        MissingPackageError, match=rf"{module} is not installed.*cb-toolkit\[{errors.EXTRA_OF_MODULE[module]}\]"
    ):
        require(module)


def test_a_package_that_is_broken_inside_keeps_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "broken_inside.py").write_text("import something_else_that_is_missing")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="something_else"):
        require("broken_inside")


@pytest.mark.parametrize("sides", [(5, 0, 5, 9), (0, 9, 5, 9), (-1, 0, 5, 9), (0, -1, 5, 9), (6, 0, 5, 9)])
def test_an_empty_or_negative_region_is_refused(sides):
    with pytest.raises(errors.UsageError, match="A region needs"):
        Box(*sides)


def test_a_box_knows_its_size_and_whether_it_fits():
    box = Box(1, 2, 11, 22)
    assert (box.width, box.height, box.as_tuple()) == (10, 20, (1, 2, 11, 22))
    assert box.inside(11, 22)
    assert not box.inside(10, 22)
