"""`cb tune`: decodings tried on videos that were scored once."""

import dataclasses
import json

import pytest

from cb_core.evaluation.tuning import decoding_from_file
from cb_runtime.contract import Decoding
from cb_runtime.errors import InputError


@pytest.mark.parametrize("text", ["", "[]", '{"decoding": {"no": 1}}', '{"decoding": {"change_penalty": -1}}'])
def test_a_file_that_holds_no_decoding_is_refused_with_the_command_that_makes_one(tmp_path, text):
    file = tmp_path / "decoding.json"
    file.write_text(text)
    with pytest.raises(InputError, match="cb tune --output"):
        decoding_from_file(file)


def test_a_saved_tuning_gives_its_decoding_back(tmp_path):
    wanted = Decoding((1, 2), change_penalty=2.0, score_scale=0.5)
    file = tmp_path / "decoding.json"
    file.write_text(json.dumps({"decoding": dataclasses.asdict(wanted)}))
    assert decoding_from_file(file) == wanted
