"""An ONNX graph in half precision, since strongly typed engines compute in the types that the graph names."""

from __future__ import annotations

from typing import Any

from physai_base.errors import BundleError, RuntimeUnavailableError

FLOAT_8 = ("FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ")


def convert(model: bytes, precision: str) -> bytes:
    """`model` with every float32 inside it in `precision`; its inputs and outputs keep their types.

    fp8 is not made here: scales need calibration data. A graph that was quantized elsewhere is passed on.

    Raises:
        BundleError: the graph has parts that are not understood, or fp8 is asked of a graph without fp8.
        RuntimeUnavailableError: the `onnx` package is missing.
    """
    if precision == "fp32":
        return model
    try:
        import onnx
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"precision {precision} rewrites the graph with the package onnx, which is not installed: pip install onnx"
        ) from error
    document = onnx.load_model_from_string(model)
    if precision == "fp8":
        if not _has_float8(document, onnx):
            raise BundleError(
                "precision fp8 needs a graph with QuantizeLinear and DequantizeLinear in fp8: quantize it with NVIDIA "
                "ModelOpt (python -m modelopt.onnx.quantization --quantize_mode fp8) and make a bundle of the result, "
                "or take fp16 or bf16"
            )
        return model
    half = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}[precision]
    _halve(document.graph, half, onnx)
    return bytes(document.SerializeToString())


def _halve(graph: Any, half: int, onnx: Any) -> None:
    single = onnx.TensorProto.FLOAT
    for tensor in graph.initializer:
        if tensor.data_type == single:
            tensor.CopyFrom(_cast(tensor, half, onnx))
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
                raise BundleError(
                    f"node {node.name!r} ({node.op_type}) holds a graph of its own, which is not converted; take fp32"
                )
            if attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == single:
                attribute.t.CopyFrom(_cast(attribute.t, half, onnx))
            if attribute.name in ("to", "dtype") and attribute.i == single:
                attribute.i = half
        if node.op_type == "Constant" and node.attribute[0].name in ("value_float", "value_floats"):
            raise BundleError(f"constant {node.name!r} is not stored as a tensor; export the graph again")
        if node.op_type == "ConstantOfShape" and not node.attribute:
            zero = onnx.helper.make_tensor("value", single, [1], [0.0])
            node.attribute.append(onnx.helper.make_attribute("value", _cast(zero, half, onnx)))
    del graph.value_info[:]  # names the old types
    begin, end = [], []
    for value in graph.input:
        if value.type.tensor_type.elem_type == single:
            inner = f"{value.name}.half"
            _rename(graph, value.name, inner, inputs=True)
            begin.append(onnx.helper.make_node("Cast", [value.name], [inner], name=inner, to=half))
    for value in graph.output:
        if value.type.tensor_type.elem_type == single:
            inner = f"{value.name}.half"
            _rename(graph, value.name, inner, inputs=True)
            _rename(graph, value.name, inner, inputs=False)
            end.append(onnx.helper.make_node("Cast", [inner], [value.name], name=inner, to=single))
    nodes = [*begin, *graph.node, *end]
    del graph.node[:]
    graph.node.extend(nodes)


def _cast(tensor: Any, half: int, onnx: Any) -> Any:
    import numpy as np

    kind = onnx.helper.tensor_dtype_to_np_dtype(half)
    # Beyond the range of fp16 a weight would become infinite; masks are such weights, and mean "very large".
    limit = 65504.0 if half == onnx.TensorProto.FLOAT16 else np.inf
    values = np.clip(onnx.numpy_helper.to_array(tensor), -limit, limit).astype(kind)
    return onnx.numpy_helper.from_array(values, tensor.name)


def _rename(graph: Any, old: str, new: str, inputs: bool) -> None:
    for node in graph.node:
        names = node.input if inputs else node.output
        for index, name in enumerate(names):
            if name == old:
                names[index] = new


def _has_float8(document: Any, onnx: Any) -> bool:
    kinds = {getattr(onnx.TensorProto, name) for name in FLOAT_8}
    constants = [
        attribute.t
        for node in document.graph.node
        for attribute in node.attribute
        if attribute.type == onnx.AttributeProto.TENSOR
    ]
    found = any(tensor.data_type in kinds for tensor in [*document.graph.initializer, *constants])
    return found and any(node.op_type == "DequantizeLinear" for node in document.graph.node)
