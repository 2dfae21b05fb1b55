"""An ONNX graph in memory: a session on the CPU, and whether its weights are all inside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from physai_base.offline import import_onnxruntime

if TYPE_CHECKING:
    import onnxruntime


def cpu_session(model: bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """ONNX Runtime's session of a graph on the CPU with that many threads; it raises exceptions of its own."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # A spinning worker would take the core that the control loop shares on small machines.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


# Which fields of ONNX's protobuf messages lead to tensors: message -> field -> message (onnx.proto3).
_ONNX_FIELDS = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}
_TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION = 13, 14


def has_external_data(data: bytes | memoryview, message: str = "Model") -> bool:
    """Whether a tensor points outside the model; read here because `onnx` is not needed at run time."""
    for number, value in _protobuf_fields(data):
        if message == "Tensor" and number == _TENSOR_EXTERNAL_DATA:
            return True
        if message == "Tensor" and number == _TENSOR_DATA_LOCATION and value != 0:
            return True
        inner = _ONNX_FIELDS[message].get(number)
        if inner and isinstance(value, memoryview) and has_external_data(value, inner):
            return True
    return False


def _protobuf_fields(data: bytes | memoryview) -> Iterator[tuple[int, int | memoryview]]:
    view, at = memoryview(data), 0
    while at < len(view):
        tag, at = _varint(view, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(view, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(view, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wrong protobuf wire type {wire}")
        if at + size > len(view):
            raise ValueError("it ends too early")
        yield number, view[at : at + size]
        at += size


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(view) or shift > 63:
            raise ValueError("it ends too early")
        byte = view[at]
        value |= (byte & 0x7F) << shift
        at += 1
        shift += 7
        if not byte & 0x80:
            return value, at
