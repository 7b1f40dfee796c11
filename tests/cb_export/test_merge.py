from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from tiny_pairs import logits_of, random_inputs, seeded_model
from torch import nn

from cb_export import merge
from cb_export.merge import merge_lora
from cb_runtime.contract import INPUT_NAMES, architecture_input_specs
from cb_runtime.errors import ModelError, ParityError


@pytest.fixture
def inputs():
    torch.manual_seed(1)
    return {spec.name: torch.randn(3, *spec.shape[1:]) for spec in architecture_input_specs()}


def layer_types(model):
    return {type(module).__module__.partition(".")[0] for module in model.modules()}


def test_a_merged_model_holds_no_adapter_and_gives_the_same_logits(inputs):
    model = seeded_model(lora=True)
    merged, record = merge_lora(model, inputs)
    assert "peft" not in layer_types(merged)
    assert record is not None
    assert record["layers"] == 1
    assert record["max_abs_logit_difference"] < 1e-5
    torch.testing.assert_close(merged(**inputs), model(**inputs), atol=1e-5, rtol=0)


def test_adapters_change_something_so_that_merging_them_matters(inputs):
    model = seeded_model(lora=True)
    with_adapters = model(**inputs)
    with model.encoder.disable_adapter():
        assert (model(**inputs) - with_adapters).abs().max() > 1e-2


def test_merging_leaves_the_model_itself_as_it_was(inputs):
    model = seeded_model(lora=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    merge_lora(model, inputs)
    assert "peft" in layer_types(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_model_without_adapters_comes_back_equal_and_without_a_record(inputs):
    model = seeded_model()
    merged, record = merge_lora(model, inputs)
    assert record is None
    torch.testing.assert_close(merged(**inputs), model(**inputs), atol=0, rtol=0)


def test_merging_gives_a_float32_model_in_evaluation_mode(inputs):
    merged, _ = merge_lora(seeded_model(lora=True).bfloat16().train(), inputs)
    assert not merged.training
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.float32}


def test_adapters_that_are_not_finite_are_refused(inputs):
    model = seeded_model(lora=True)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.constant_(parameter, float("nan"))
    with pytest.raises(ModelError, match="cannot be merged"):
        merge_lora(model, inputs)


def test_adapters_that_peft_was_not_asked_to_manage_are_refused(inputs):
    model = seeded_model()
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["3"]), model.encoder)
    with pytest.raises(ModelError, match=r"still hold an adapter.*encoder\.3.*get_peft_model"):
        merge_lora(model, inputs)


@pytest.mark.parametrize("wrong", [1.5, float("nan")])
def test_a_merge_that_changes_logits_is_refused(inputs, monkeypatch, wrong):
    right = merge._merge_all

    def merge_wrongly(model):
        right(model)
        model.head.bias.data *= wrong

    monkeypatch.setattr(merge, "_merge_all", merge_wrongly)
    with pytest.raises(ParityError, match="Merging LoRA changed a logit"):
        merge_lora(seeded_model(lora=True), inputs)


def test_stand_in_helpers_speak_the_contract():
    assert logits_of(seeded_model(), random_inputs(2)).shape == (2, 5)
    assert tuple(random_inputs(1)) == INPUT_NAMES
