"""Arrays inside messages, in the three spellings in use, decoded as if the sender meant harm.

    openpi    msgpack; an array is {b"__ndarray__": True, b"data", b"dtype", b"shape"}
              (openpi-client, msgpack_numpy.py)
    gr00t     msgpack; an array is {"__ndarray_class__": True, "as_npy": a .npy file}
              (Isaac-GR00T, gr00t/policy/server_client.py)
    openvla   JSON; an array is {"__numpy__": base64, "dtype", "shape"} (json_numpy, in OpenVLA's deploy.py)

No message makes more than its own size plus a bounded number of objects; numbers and booleans are the only
element types, so nothing that is received can name code.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from physai_base.errors import PolicyError

MAX_DIMENSIONS = 6
_DTYPES = {
    np.dtype(name).str: np.dtype(name)
    for name in ("bool", "u1", "i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8")
}

_NPY_HEADER = re.compile(
    rb"\{'descr': '([<|][a-z][0-9])', 'fortran_order': (True|False), 'shape': \(((?:[0-9]{1,12}, ?)*(?:[0-9]{1,12})?)\), \}\s*"
)


class WireError(PolicyError):
    """A message that is damaged, too large or not of the kind that was agreed on."""


@dataclass(frozen=True)
class WireLimits:
    """What one message may hold."""

    bytes: int
    items: int = 4096  # keys and values, arrays counting as the few items that describe them
    depth: int = 8

    def check_size(self, size: int) -> None:
        """Refuse a message of so many bytes.

        Raises:
            WireError: it is larger than agreed on.
        """
        if size > self.bytes:
            raise WireError(f"a message of {size} bytes came, at most {self.bytes} are accepted")


def pack_openpi(message: Mapping[str, Any]) -> bytes:
    """A message as openpi-client packs it."""
    import msgpack

    return msgpack.packb(message, default=_openpi_array)


def unpack_openpi(data: bytes, limits: WireLimits) -> Any:
    """What `pack_openpi` packed; arrays are read-only views of `data`.

    Raises:
        WireError: it is none, or beyond the limits.
    """
    return _unpack(data, limits, _from_openpi_array)


def pack_gr00t(message: Any) -> bytes:
    """A message as GR00T's MsgSerializer packs it."""
    import msgpack

    return msgpack.packb(message, default=_gr00t_array)


def unpack_gr00t(data: bytes, limits: WireLimits) -> Any:
    """What GR00T's server packs; arrays are read-only views.

    Raises:
        WireError: it is none, or beyond the limits.
    """
    return _unpack(data, limits, _from_gr00t_array)


def pack_json(message: Any) -> bytes:
    """A message as json_numpy writes it."""
    return json.dumps(message, default=_json_array).encode()


def unpack_json(data: bytes, limits: WireLimits) -> Any:
    """What json_numpy writes.

    Raises:
        WireError: it is none, or beyond the limits.
    """
    limits.check_size(len(data))
    try:
        return json.loads(data, object_hook=_from_json_array, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise WireError(f"the message is not JSON: {error}") from error


# Arrays ----------------------------------------------------------------------------------------------------


def _dtype(name: Any) -> np.dtype:
    found = _DTYPES.get(name) if isinstance(name, str) else None
    if found is None:
        raise WireError(f"arrays of type {str(name)[:40]!r} are refused; allowed: {', '.join(_DTYPES)}")
    return found


def _array(data: Any, dtype: Any, shape: Any) -> np.ndarray:
    """The array of that shape in `data`, which must be filled exactly."""
    kind = _dtype(dtype)
    sizes = list(shape) if isinstance(shape, list | tuple) else [-1]
    if len(sizes) > MAX_DIMENSIONS or not all(type(size) is int and size >= 0 for size in sizes):
        raise WireError(
            f"{str(shape)[:80]} is not the shape of an array of at most {MAX_DIMENSIONS} dimensions"
        )
    size = math.prod(sizes) * kind.itemsize
    if not isinstance(data, bytes) or len(data) != size:
        got = len(data) if isinstance(data, bytes) else type(data).__name__
        raise WireError(f"an array of shape {sizes} and type {kind} takes {size} bytes, got {got}")
    return np.frombuffer(data, kind).reshape(sizes)


def _openpi_array(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {
            b"__ndarray__": True, b"data": value.tobytes(), b"dtype": _dtype(value.dtype.str).str, b"shape": value.shape,
        }  # fmt: skip
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": _dtype(value.dtype.str).str}
    raise TypeError(f"{type(value).__name__} cannot be sent")


def _from_openpi_array(entry: dict[Any, Any]) -> Any:
    if b"__ndarray__" in entry:
        return _array(entry.get(b"data"), entry.get(b"dtype"), entry.get(b"shape"))
    if b"__npgeneric__" in entry:
        value = entry.get(b"data")
        if not isinstance(value, bool | int | float):
            raise WireError(f"a number is needed, got {type(value).__name__}")
        return _dtype(entry.get(b"dtype")).type(value)
    return entry


def _gr00t_array(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        _dtype(value.dtype.str)
        file = io.BytesIO()
        np.save(file, value, allow_pickle=False)
        return {"__ndarray_class__": True, "as_npy": file.getvalue()}
    raise TypeError(f"{type(value).__name__} cannot be sent")


def _from_gr00t_array(entry: dict[Any, Any]) -> Any:
    """An array from a .npy file (numpy.lib.format); np.load reads other formats, too, and trusts the header's shape."""
    if "__ndarray_class__" not in entry:
        return entry
    data = entry.get("as_npy")
    if not isinstance(data, bytes):
        raise WireError(f"a .npy file is needed, got {type(data).__name__}")
    wide = data[6:7] == b"\2"  # version 2.0 has room for longer headers, version 1.0 is the usual one
    begin = 12 if wide else 10
    if data[:6] != b"\x93NUMPY" or data[6:8] not in (b"\1\0", b"\2\0") or len(data) < begin:
        raise WireError("the .npy file of an array is damaged or of an unknown version")
    end = begin + struct.unpack_from("<I" if wide else "<H", data, 8)[0]
    header = _NPY_HEADER.fullmatch(data[begin:end])
    if header is None or end > len(data):
        raise WireError("the .npy file of an array has a damaged header, or is not of plain numbers")
    shape = [int(size) for size in header[3].split(b",") if size.strip()]
    if header[2] == b"False":
        return _array(data[end:], header[1].decode(), shape)
    return _array(data[end:], header[1].decode(), shape[::-1]).T


def _json_array(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        array = np.ascontiguousarray(value)
        return {
            "__numpy__": base64.b64encode(array.tobytes()).decode(), "dtype": _dtype(array.dtype.str).str,
            "shape": list(value.shape),
        }  # fmt: skip
    raise TypeError(f"{type(value).__name__} cannot be sent")


def _from_json_array(entry: dict[str, Any]) -> Any:
    if "__numpy__" not in entry:
        return entry
    try:
        data = base64.b64decode(entry["__numpy__"], validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise WireError(f"an array is not base64: {error}") from error
    return _array(data, entry.get("dtype"), entry.get("shape"))


def _refuse_constant(text: str) -> None:
    raise WireError(f"{text} is not a finite number")


# Msgpack ---------------------------------------------------------------------------------------------------


def _unpack(data: bytes, limits: WireLimits, from_array: Any) -> Any:
    import msgpack

    limits.check_size(len(data))
    _check_structure(data, limits)
    try:
        return msgpack.unpackb(data, object_hook=from_array)
    except (ValueError, TypeError, OverflowError, msgpack.exceptions.UnpackException) as error:
        raise WireError(f"the message is not msgpack: {str(error)[:200]}") from error


# First byte → bytes of the number that follows, and what that number counts.
_BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_SCALARS = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}  # fmt: skip
_CONTAINERS = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}  # array, array, map, map
_NUMBER = {1: ">B", 2: ">H", 4: ">I"}


def _check_structure(data: bytes, limits: WireLimits) -> None:
    """Walk over the message without making any of it: a few bytes can ask a decoder for millions of objects.

    https://github.com/msgpack/msgpack/blob/master/spec.md
    """
    at, items = 0, 0
    missing = [1]  # for each open container: how many of its items have not come
    while missing:
        if missing[-1] == 0:
            missing.pop()
            continue
        missing[-1] -= 1
        items += 1
        if items > limits.items:
            raise WireError(f"the message holds more than {limits.items} items")
        try:
            at, inside = _step(data, at)
        except (IndexError, struct.error) as error:
            raise WireError("the message ends too early") from error
        if at > len(data):
            raise WireError("the message ends too early")
        if inside is None:
            continue
        if len(missing) > limits.depth:
            raise WireError(f"the message is nested deeper than {limits.depth}")
        missing.append(inside)
    if at != len(data):
        raise WireError(f"{len(data) - at} bytes follow the message")


def _step(data: bytes, at: int) -> tuple[int, int | None]:
    """Where the item at `at` ends, or its first member begins, and how many members it has when it is a container."""
    first = data[at]
    at += 1
    if first < 0x80 or first >= 0xE0:  # small numbers
        return at, None
    if first < 0x90:
        return at, 2 * (first & 0x0F)
    if first < 0xA0:
        return at, first & 0x0F
    if first < 0xC0:  # short text
        return at + (first & 0x1F), None
    if first in _SCALARS:
        return at + _SCALARS[first], None
    if first in _BYTES:
        width = _BYTES[first]
        return at + width + struct.unpack_from(_NUMBER[width], data, at)[0], None
    if first in _CONTAINERS:
        width, each = _CONTAINERS[first]
        return at + width, each * struct.unpack_from(_NUMBER[width], data, at)[0]
    raise WireError(f"msgpack's type 0x{first:02x} is refused: only plain values are accepted")
