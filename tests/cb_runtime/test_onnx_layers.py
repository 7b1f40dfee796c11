"""In which arithmetic layers compute is read from an ONNX file as the `onnx` package would read it."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cb_runtime.errors import ModelError
from cb_runtime.models import default_model_path
from cb_runtime.onnx_layers import TYPES, WEIGHTED, layers_of_bytes, layers_of_onnx

SHAPE = (4, 3, 2, 2)


def weights(name, dtype=np.float32, shape=SHAPE):
    return numpy_helper.from_array(np.ones(shape, dtype), name)


def layers(nodes, initializers):
    pictures = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])
    outputs = [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "tiny", [pictures], outputs, initializers)
    return layers_of_bytes(helper.make_model(graph).SerializeToString())


def scale(name="scale"):
    return numpy_helper.from_array(np.float32(0.1), name)


def test_a_float_layer_is_float():
    (name, share), *others = layers([helper.make_node("Conv", ["x", "w"], ["y"])], [weights("w")]).items()
    assert (name, others) == ("float32", [])
    assert (share.layers, share.weights, share.layer_share, share.weight_share) == (1, 48, 1, 1)


def test_shares_are_of_layers_and_of_weights():
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"]),
        helper.make_node("Cast", ["y"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["half", "v"], ["z"]),
        helper.make_node("Relu", ["z"], ["out"]),
    ]
    found = layers(nodes, [weights("w"), weights("v", np.float16, (8, 2))])
    assert list(found) == ["float32", "float16"]
    assert found["float32"].layer_share == 0.5
    assert found["float16"].weights == 16
    assert found["float16"].weight_share == 0.25


@pytest.mark.parametrize(("to", "name"), [(TensorProto.FLOAT16, "float16"), (TensorProto.BFLOAT16, "bfloat16")])
def test_float_weights_that_are_cast_compute_as_what_they_become(to, name):
    nodes = [
        helper.make_node("Cast", ["x"], ["x16"], to=to),
        helper.make_node("Transpose", ["w"], ["turned"], perm=[0, 1, 3, 2]),
        helper.make_node("Cast", ["turned"], ["w16"], to=to),
        helper.make_node("Conv", ["x16", "w16"], ["y"]),
    ]
    assert list(layers(nodes, [weights("w")])) == [name]


def quantised(both):
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "scale"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "scale"], ["wd"]),
        helper.make_node("Conv", ["xd" if both else "x", "wd"], ["y"]),
    ]
    return layers(nodes, [weights("w", np.int8), scale()])


def test_a_layer_is_int8_where_weights_and_activations_are_quantised():
    assert list(quantised(both=True)) == ["int8"]


def test_weights_that_are_only_stored_as_int8_compute_in_float():
    assert list(quantised(both=False)) == ["float32"]


def test_weights_may_stand_in_a_constant():
    nodes = [
        helper.make_node("Constant", [], ["w"], value=weights("")),
        helper.make_node("Conv", ["x", "w"], ["y"]),
    ]
    assert layers(nodes, [])["float32"].weights == 48


def test_products_of_activations_are_no_layers():
    assert layers([helper.make_node("MatMul", ["x", "x"], ["y"])], []) == {}


def test_every_type_is_named_as_onnx_names_it():
    own = {"FLOAT": "float32", "DOUBLE": "float64"}
    for number, name in TYPES.items():
        onnx_name = TensorProto.DataType.Name(number)
        assert own.get(onnx_name, onnx_name.lower()) == name


def test_the_model_in_the_box_is_read_as_the_onnx_package_reads_it():
    model = onnx.load(default_model_path())
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer}
    wanted = [sizes[node.input[1]] for node in model.graph.node if node.op_type in WEIGHTED and node.input[1] in sizes]
    found = layers_of_onnx(default_model_path())["float32"]
    assert found.layers == len(wanted) > 10
    assert found.weights == sum(wanted) > 10**5


def test_dimensions_may_be_packed():
    plain = helper.make_model(
        helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"])], "g", [], [], [weights("w")])
    ).SerializeToString()
    assert b"\x08\x04\x08\x03\x08\x02\x08\x02" in plain  # dims, one by one
    packed = plain.replace(b"\x08\x04\x08\x03\x08\x02\x08\x02", b"\x0a\x04\x04\x03\x02\x02\x0a\x00")
    assert layers_of_bytes(packed)["float32"].weights == 48


@pytest.mark.parametrize("content", [b"", b"hello, this is no model", b"\x3a\xff\xff\x03", b"\xff" * 20, b"\x3a"])
def test_what_is_no_onnx_is_told(tmp_path, content):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"cannot be read as ONNX"):
        layers_of_onnx(tmp_path / "m.onnx")


def test_a_model_that_is_cut_short_is_told(tmp_path):
    (tmp_path / "m.onnx").write_bytes(default_model_path().read_bytes()[:-1000])
    with pytest.raises(ModelError, match="longer than what holds it"):
        layers_of_onnx(tmp_path / "m.onnx")
