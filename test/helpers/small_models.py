"""Graphs small enough to check by hand."""

from __future__ import annotations


def doubling_model(external: bool = False) -> bytes:
    """A graph that doubles three numbers; `external` claims that its weights lie in another file."""
    from onnx import TensorProto, helper

    factor = helper.make_tensor("factor", TensorProto.FLOAT, [3], [2.0, 2.0, 2.0])
    if external:
        factor.ClearField("float_data")
        factor.data_location = TensorProto.EXTERNAL
        entry = factor.external_data.add()
        entry.key, entry.value = "location", "other.bin"
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        "double",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [factor],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model.SerializeToString()
