from __future__ import annotations

import platform
from pathlib import Path

import onnx
import pytest
import torch
from tiny_pairs import seeded_model

import cb_export
from cb_core.deployment import DeploymentModel
from cb_export.graph import trace
from cb_export.targets import TargetOptions
from cb_export.targets import onnx as target
from cb_runtime.backends import METADATA_KEY
from cb_runtime.contract import ModelMetadata, metadata_from_json
from cb_runtime.errors import ModelError, UsageError


@pytest.fixture(scope="module")
def graph():
    return trace(DeploymentModel(seeded_model()).eval())


@pytest.fixture(scope="module")
def built(graph, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    return path, target.build(graph, ModelMetadata("tiny_pairs"), TargetOptions(), path)


@pytest.fixture
def model(built):
    return onnx.load(built[0])


def check_changed(model, tmp_path):
    onnx.save(model, tmp_path / "changed.onnx")
    target.check_file(tmp_path / "changed.onnx", ModelMetadata("tiny_pairs"))


def test_the_file_says_nothing_of_the_machine_that_wrote_it(built):
    content = built[0].read_bytes()
    here = [str(Path.home()), str(Path(cb_export.__file__).parents[1]), str(built[0].parent), platform.node()]
    traces = ["site-packages", "/cb_", "\\cb_", ".py", "Traceback", "stack_trace", "namespace", "class_hierarchy"]
    assert [text for text in traces + here if len(text) > 3 and text.encode() in content] == []


def test_no_part_of_the_graph_keeps_doc_strings_or_node_metadata(model):
    parts = [model.graph, *model.graph.node, *model.graph.initializer, *model.graph.value_info, *model.graph.input]
    assert not any(part.doc_string or part.metadata_props for part in parts)


def test_traces_are_removed_from_nested_graphs_too():
    inner = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["a"], ["b"], doc_string="/home/x.py")], "g", [], [])
    outer = onnx.helper.make_node("If", ["c"], ["d"], then_branch=inner)
    model = onnx.helper.make_model(onnx.helper.make_graph([outer], "h", [], [], doc_string="/home/x.py"))
    target.strip_traces(model)
    assert b"/home" not in model.SerializeToString()


def test_the_batch_axis_is_symbolic_and_the_same_for_all_inputs_and_the_output(model):
    axes = [value.type.tensor_type.shape.dim[0] for value in (*model.graph.input, *model.graph.output)]
    assert [axis.dim_param for axis in axes] == ["batch"] * 6


def test_the_opset_is_read_back_from_the_file(built, model):
    assert model.opset_import[0].version == built[1].opset == 20


def test_the_metadata_is_one_entry_of_the_file(built, model):
    assert [entry.key for entry in model.metadata_props] == [METADATA_KEY]
    assert metadata_from_json(model.metadata_props[0].value) == built[1]


def test_another_opset_is_obeyed(graph, tmp_path):
    metadata = target.build(graph, ModelMetadata("tiny_pairs"), TargetOptions(opset=18), tmp_path / "a.onnx")
    assert metadata.opset == onnx.load(tmp_path / "a.onnx").opset_import[0].version == 18


def test_an_opset_that_the_exporter_replaces_by_another_is_refused(graph, tmp_path, monkeypatch):
    monkeypatch.setattr(target, "_opset", lambda model: 21)
    with pytest.raises(UsageError, match=r"Opset 20 was asked for, the exporter writes 21\. Use --opset 21"):
        target.build(graph, ModelMetadata("tiny_pairs"), TargetOptions(), tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("opset", [-1, 17, 99])
def test_an_opset_that_cannot_be_had_is_refused_with_the_range(graph, tmp_path, opset):
    with pytest.raises(UsageError, match=rf"Opset {opset} cannot be written\. Choose 18 to \d+"):
        target.build(graph, ModelMetadata("tiny_pairs"), TargetOptions(opset=opset), tmp_path / "a.onnx")


def test_an_exporter_that_fails_is_named_with_the_beginning_of_its_reason(graph, tmp_path, monkeypatch):
    def fail(*args, **options):
        raise RuntimeError("No converter for aten.mystery\n" + "the whole program\n" * 1000)

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(ModelError, match=r"opset 20 \(RuntimeError\): No converter for aten\.mystery") as caught:
        target.build(graph, ModelMetadata("tiny_pairs"), TargetOptions(), tmp_path / "a.onnx")
    assert len(str(caught.value)) < 500


def test_a_fixed_batch_axis_is_refused(model, tmp_path):
    model.graph.input[1].type.tensor_type.shape.dim[0].dim_value = 2
    with pytest.raises(ModelError, match="batch axis of frame1 is fixed"):
        check_changed(model, tmp_path)


def test_a_batch_axis_of_its_own_for_one_input_is_refused(model, tmp_path):
    model.graph.input[3].type.tensor_type.shape.dim[0].dim_param = "other"
    with pytest.raises(ModelError, match="spatial_features float32 otherx6"):
        check_changed(model, tmp_path)


def test_inputs_in_another_order_are_refused(model, tmp_path):
    order = [model.graph.input[index] for index in (1, 0, 2, 3, 4)]
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.input[:]
    changed.graph.input.extend(order)
    with pytest.raises(ModelError, match="Inputs of the ONNX graph must be ocr_viz uint8 batchx48x480x3; frame1"):
        check_changed(changed, tmp_path)


def test_another_output_is_refused(model, tmp_path):
    value = onnx.helper.make_tensor_value_info(model.graph.output[0].name, onnx.TensorProto.FLOAT, ["batch", 5, 1])
    model.graph.output[0].CopyFrom(value)
    with pytest.raises(ModelError):
        check_changed(model, tmp_path)


def test_an_invalid_graph_is_refused(model, tmp_path):
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(ModelError, match="not valid"):
        check_changed(model, tmp_path)


def test_weights_in_a_second_file_are_refused(model, tmp_path):
    onnx.save(model, tmp_path / "a.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    with pytest.raises(ModelError, match="Weights must be inside the ONNX file"):
        target.check_file(tmp_path / "a.onnx", ModelMetadata("tiny_pairs"))
