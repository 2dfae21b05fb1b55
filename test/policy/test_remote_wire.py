"""Arrays on the wire: the same as the projects' own packers', and nothing harmful gets through."""

from __future__ import annotations

import io
import pickle  # to make what must be refused
import struct
import tracemalloc
from typing import Any

import json_numpy
import msgpack
import numpy as np
import pytest
from openpi_client import msgpack_numpy
from remote_peers import Gr00tServer

from physai_policy.remote import wire
from physai_policy.remote.wire import WireError, WireLimits

LIMITS = WireLimits(bytes=1 << 20)
ARRAYS = [
    np.arange(12, dtype=np.float32).reshape(3, 4),
    np.arange(6, dtype=np.float64)[::2],
    np.asfortranarray(np.arange(6, dtype="<i8").reshape(2, 3)),
    np.zeros((2, 3, 3), np.uint8),
    np.array([True, False]),
    np.array(1.5, np.float16),
    np.zeros((0, 4), np.float32),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_openpi_packs_and_reads_the_same(array: np.ndarray) -> None:
    message = {"a": array, "deep": {"n": np.float32(2.5)}, "text": "lift", "list": [1, None, True]}
    assert wire.pack_openpi(message) == msgpack_numpy.packb(message)
    read = wire.unpack_openpi(msgpack_numpy.packb(message), LIMITS)
    assert read["a"].dtype == array.dtype
    np.testing.assert_array_equal(read["a"], array)
    assert read["deep"]["n"] == 2.5 and isinstance(read["deep"]["n"], np.float32)
    assert read["text"] == "lift" and read["list"] == [1, None, True]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_gr00t_packs_and_reads_the_same(array: np.ndarray) -> None:
    theirs = msgpack.packb({"a": array}, default=Gr00tServer.encode)
    assert wire.pack_gr00t({"a": array}) == theirs
    np.testing.assert_array_equal(wire.unpack_gr00t(theirs, LIMITS)["a"], array)


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_json_packs_and_reads_the_same(array: np.ndarray) -> None:
    np.testing.assert_array_equal(json_numpy.loads(wire.pack_json({"a": array}).decode())["a"], array)
    np.testing.assert_array_equal(
        wire.unpack_json(json_numpy.dumps({"a": array}).encode(), LIMITS)["a"], array
    )


def array_entry(data: Any = bytes(8), dtype: Any = "<f8", shape: Any = (1,)) -> bytes:
    return msgpack.packb({b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": shape})


class Harmful:
    def __reduce__(self) -> Any:
        return (print, ("unpickled",))


HARMFUL = {
    "nothing": b"",
    "pickle": pickle.dumps(Harmful()),
    "an object array": array_entry(pickle.dumps(Harmful()), "|O"),
    "a structured array": array_entry(bytes(8), "<f8,<f8"),
    "text in an array": array_entry(bytes(8), "<U2"),
    "big-endian": array_entry(bytes(8), ">f8"),
    "a type that is no text": array_entry(bytes(8), ["<f8"]),
    "too little data": array_entry(bytes(4)),
    "too much data": array_entry(bytes(12)),
    "a shape of terabytes": array_entry(bytes(8), "<f8", (1 << 40,)),
    "a shape that overflows": array_entry(bytes(8), "<f8", (1 << 62, 1 << 62)),
    "a negative shape": array_entry(bytes(8), "<f8", (-1,)),
    "a shape of truths": array_entry(bytes(8), "<f8", (True,)),
    "a shape of texts": array_entry(bytes(8), "<f8", ("1",)),
    "too many dimensions": array_entry(bytes(8), "<f8", (1,) * 7),
    "data that is no bytes": array_entry("12345678"),
    "a number that is none": msgpack.packb({b"__npgeneric__": True, b"data": "1", b"dtype": "<f8"}),
    "a number beyond its type": msgpack.packb({b"__npgeneric__": True, b"data": 300, b"dtype": "|u1"}),
    "an extension": msgpack.packb(msgpack.ExtType(4, b"x")),
    "a time": b"\xd6\xff\x00\x00\x00\x01",
    "a reserved byte": b"\xc1",
    "an array of 2³² items": b"\xdd\xff\xff\xff\xff",
    "a map of 2³² items": b"\xdf\xff\xff\xff\xff",
    "text of 4 GB": b"\xdb\xff\xff\xff\xff",
    "bytes of 4 GB": b"\xc6\xff\xff\xff\xff",
    "a length cut short": b"\xc6\xff",
    "deep lists": b"\x91" * 100_000 + b"\xc0",
    "deep maps": b"\x81\xa1a" * 100_000 + b"\xc0",
    "a million empty maps": b"\xdd" + struct.pack(">I", 1_000_000) + b"\x80" * 1_000_000,
    "something behind": b"\xc0\xc0",
    "keys that are lists": b"\x81\x90\xc0",
    "text that is none": b"\xa1\xff",
    "more than agreed on": bytes(LIMITS.bytes + 1),
}  # fmt: skip


@pytest.mark.parametrize("data", HARMFUL.values(), ids=HARMFUL.keys())
def test_harm_is_refused_without_much_memory(data: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            wire.unpack_openpi(data, LIMITS)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * LIMITS.bytes
    assert "unpickled" not in capsys.readouterr().out


@pytest.mark.parametrize("count", range(0, 200, 7))
def test_a_message_cut_anywhere_is_refused(count: int) -> None:
    data = msgpack_numpy.packb({"actions": np.zeros((4, 4)), "server_timing": {"infer_ms": 1.0}})
    with pytest.raises(WireError):
        wire.unpack_openpi(data[: len(data) * count // 200], LIMITS)


def test_noise_never_does_worse_than_a_refusal() -> None:
    random = np.random.default_rng(3)
    good = bytearray(msgpack_numpy.packb({"actions": np.ones((4, 4)), "deep": {"a": [1, "b", 2.0]}}))
    for _ in range(2000):
        data = bytearray(good)
        for _ in range(random.integers(1, 4)):
            data[random.integers(len(data))] = random.integers(256)
        try:
            wire.unpack_openpi(bytes(data), LIMITS)
        except WireError:
            continue


def npy(array: np.ndarray) -> bytearray:
    file = io.BytesIO()
    np.save(file, array)
    return bytearray(file.getvalue())


HARMFUL_NPY = {
    "nothing": b"",
    "pickle": pickle.dumps(Harmful()),
    "a zip": b"PK\x03\x04" + bytes(100),
    "cut short": bytes(npy(np.zeros(4))[:-1]),
    "a shape of terabytes": bytes(npy(np.zeros(4))).replace(b"(4,), }" + b" " * 12, b"(4000000000000,), }"),
    "an object": b"\x93NUMPY\x01\x00" + struct.pack("<H", 60) + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(60),
    "a header that computes": b"\x93NUMPY\x01\x00" + struct.pack("<H", 40) + b"__import__('os').system('true')".ljust(40),
    "an endless header": b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b"(" * 1000,
    "version 9": b"\x93NUMPY\x09\x00" + bytes(60),
}  # fmt: skip


@pytest.mark.parametrize("data", HARMFUL_NPY.values(), ids=HARMFUL_NPY.keys())
def test_harm_in_a_npy_file_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        wire.unpack_gr00t(msgpack.packb({"__ndarray_class__": True, "as_npy": bytes(data)}), LIMITS)


@pytest.mark.parametrize(
    "text",
    ["", "[1, 2", "NaN", "[Infinity]", "[" * 100_000, '{"__numpy__": "!", "dtype": "<f8", "shape": [1]}',
     '{"__numpy__": 3, "dtype": "<f8", "shape": [1]}', '{"__numpy__": "AAAA", "dtype": "|O", "shape": [1]}',
     '{"__numpy__": "AAAAAAAAAAA=", "dtype": [["a", "<f8"]], "shape": [1]}'],
)  # fmt: skip
def test_harm_in_json_is_refused(text: str) -> None:
    with pytest.raises(WireError):
        wire.unpack_json(text.encode(), LIMITS)


def test_what_cannot_be_sent_is_an_error_here() -> None:
    for pack in (wire.pack_openpi, wire.pack_gr00t, wire.pack_json):
        with pytest.raises((WireError, TypeError)):
            pack({"a": np.array([object()])})
        with pytest.raises((WireError, TypeError)):
            pack({"a": object()})
