from __future__ import annotations

import pytest
import torch
from tiny_pairs import seeded_model
from torch import nn

from cb_core.deployment import DeploymentModel
from cb_export.graph import example_inputs, trace
from cb_runtime.contract import INPUT_NAMES, Preprocessing, graph_input_specs
from cb_runtime.errors import ModelError


@pytest.fixture(scope="module")
def model():
    return DeploymentModel(seeded_model()).eval()


@pytest.fixture(scope="module")
def graph(model):
    return trace(model)


@pytest.mark.parametrize("batch", [1, 2, 3, 7])
def test_a_traced_graph_computes_any_batch_size(model, graph, batch):
    inputs = example_inputs(graph_input_specs(), batch)
    torch.testing.assert_close(graph.program.module()(**inputs), model(**inputs), atol=1e-6, rtol=0)


def test_the_graph_takes_the_inputs_of_the_contract(graph):
    assert tuple(spec.name for spec in graph.inputs) == INPUT_NAMES
    assert tuple(graph.program.graph_signature.user_inputs) == INPUT_NAMES


def test_all_inputs_share_one_batch_axis(graph):
    axes = {id(axis) for axes in graph.dynamic_shapes.values() for axis in axes.values()}
    assert len(axes) == 1
    assert all(tuple(axes) == (0,) for axes in graph.dynamic_shapes.values())


def test_example_inputs_fit_the_specs_and_are_the_same_at_every_call():
    specs = graph_input_specs(Preprocessing(height=24, width=96))
    one, other = example_inputs(specs), example_inputs(specs)
    for spec in specs:
        assert spec.mismatch(str(one[spec.name].dtype).removeprefix("torch."), tuple(one[spec.name].shape)) is None
        assert torch.equal(one[spec.name], other[spec.name])


class FixedBatch(nn.Module):
    def forward(self, ocr_viz, frame1, frame2, spatial_features, font_embedding):
        return spatial_features.view(2, 6)[:, :5]


class ByValue(nn.Module):
    def forward(self, ocr_viz, frame1, frame2, spatial_features, font_embedding):
        return spatial_features[:, :5] if spatial_features.sum() > 0 else spatial_features[:, 1:]


@pytest.mark.parametrize("model_class", [FixedBatch, ByValue])
def test_a_model_that_cannot_be_traced_is_refused_with_the_reason(model_class):
    with pytest.raises(ModelError, match="cannot be traced with a free batch size"):
        trace(model_class())


def test_a_model_beyond_the_size_of_one_onnx_file_is_refused_before_it_is_traced():
    with torch.device("meta"):
        huge = nn.Linear(2**15, 2**15)
    with pytest.raises(ModelError, match=r"4\.0 GiB, one ONNX file holds at most 2 GiB"):
        trace(huge)
