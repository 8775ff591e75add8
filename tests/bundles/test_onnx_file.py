"""A graph from elsewhere may name any file of this machine as its weights: it must not even be loaded to find out."""

from __future__ import annotations

import contextlib

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from derm_ml.bundles.bundle import MODEL
from derm_ml.bundles.onnx_file import GraphError, refuse_external_data


def external(location: str = "/etc/passwd") -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def graph(nodes=(), initializer=()) -> onnx.GraphProto:
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    return helper.make_graph(list(nodes), "g", [], [out], list(initializer))


def field(number: int, content: bytes) -> bytes:
    """A field of protobuf that holds bytes or a message."""
    length, size = len(content), b""
    while length > 0x7F:
        size, length = size + bytes([length & 0x7F | 0x80]), length >> 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + content


def models() -> dict[str, onnx.ModelProto]:
    constant = helper.make_node("Constant", [], ["y"], value=external())
    inner = helper.make_node("If", ["c"], ["y"], then_branch=graph([constant]), else_branch=graph([constant]))
    several = helper.make_node("Custom", [], ["y"])
    several.attribute.add(name="t", type=onnx.AttributeProto.TENSORS).tensors.append(external())
    sparse = onnx.AttributeProto(name="s", type=onnx.AttributeProto.SPARSE_TENSOR)
    sparse.sparse_tensor.values.CopyFrom(external())
    of_sparse = helper.make_node("Constant", [], ["y"])
    of_sparse.attribute.append(sparse)
    in_function = helper.make_model(graph())
    in_function.functions.add(name="f", domain="d").node.append(constant)
    location_alone = external()
    del location_alone.external_data[:]
    path_alone = external()
    path_alone.data_location = TensorProto.DEFAULT
    return {
        "initializer": helper.make_model(graph(initializer=[external()])),
        "a file beside it": helper.make_model(graph(initializer=[external("weights.bin")])),
        "constant": helper.make_model(graph([constant])),
        "inside a branch": helper.make_model(graph([inner])),
        "list of tensors": helper.make_model(graph([several])),
        "sparse": helper.make_model(graph([of_sparse])),
        "function": in_function,
        "location without a path": helper.make_model(graph(initializer=[location_alone])),
        "path without a location": helper.make_model(graph(initializer=[path_alone])),
    }


@pytest.mark.parametrize("where", models())
def test_a_graph_that_names_another_file_is_refused_wherever_it_does(tmp_path, where):
    path = tmp_path / "model.onnx"
    path.write_bytes(models()[where].SerializeToString())
    with pytest.raises(GraphError, match="keeps numbers in another file"):
        refuse_external_data(path)


def test_a_trained_graph_is_not(trained, tmp_path):
    refuse_external_data(trained / "bundle" / MODEL)
    path = tmp_path / "model.onnx"
    path.write_bytes(helper.make_model(graph(initializer=[numpy_helper.from_array(np.ones(3))])).SerializeToString())
    refuse_external_data(path)


def test_a_graph_nested_without_end_is_refused_in_a_sentence(tmp_path):
    """Written byte by byte: protobuf itself makes no message as deep as this."""
    deep = b""
    for _ in range(100):
        deep = field(1, field(5, field(6, deep)))  # a graph's node, its attribute, that attribute's graph
    path = tmp_path / "model.onnx"
    path.write_bytes(field(7, deep))
    with pytest.raises(GraphError, match="nested more than"):
        refuse_external_data(path)


@given(st.binary(max_size=200))
def test_whatever_the_bytes_there_is_a_sentence_or_nothing(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(data)
    with contextlib.suppress(GraphError):
        refuse_external_data(path)
