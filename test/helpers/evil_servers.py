"""Servers that mean harm: for each what it does, and what the error says."""

from __future__ import annotations

import socket
from collections.abc import Callable

import numpy as np
from openpi_client import msgpack_numpy
from remote_peers import (
    HORIZON,
    SHAPE,
    ZMTP_GREETING,
    ZMTP_READY,
    flood,
    good_actions,
    gr00t_reply,
    http_reply,
    openpi_handshake,
    openpi_reply,
    read_websocket_message,
    silence,
    websocket_frame,
    zmtp_frame,
)  # fmt: skip


def ignore(connection: socket.socket) -> None:
    """Close at once."""


def openpi_metadata(data: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: (openpi_handshake(connection, data), silence(connection))[1]


def http_head(*lines: str) -> bytes:
    return ("\r\n".join(("HTTP/1.1 200 OK", *lines)) + "\r\n\r\n").encode()


def http_json(text: bytes) -> Callable[[socket.socket], None]:
    return http_reply(http_head(f"Content-Length: {len(text)}") + text)


def endless_pings(connection: socket.socket) -> None:
    flood(connection, websocket_frame(b"", 9) * 100)


def endless_fragments(connection: socket.socket) -> None:
    connection.sendall(websocket_frame(b"", 2, fin=False))
    flood(connection, websocket_frame(b"", 0, fin=False) * 1000)


def gigabytes(connection: socket.socket) -> None:
    connection.sendall(websocket_frame(b"", claim=4 << 30))
    flood(connection, bytes(1 << 20))


ROWS = np.zeros(SHAPE)
PICKLE = b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x08builtins\x94\x8c\x05print\x94\x93\x94."
NESTED = b"\x91" * 100_000 + b"\xc0"
NUMPY = {b"__ndarray__": True, b"data": PICKLE, b"dtype": "|O", b"shape": (1,)}
EVIL = {
    # kind, what the server does, what the error says
    "closes at once": ("openpi", ignore, "closed|reset|Broken pipe"),
    "says nothing": ("openpi", silence, "no answer within"),
    "is noise": ("openpi", lambda c: (c.sendall(bytes(range(256)) * 64), silence(c)), "does not speak websocket"),
    "never ends its headers": ("openpi", lambda c: flood(c, b"HTTP/1.1 101 OK\r\n" + b"A: " + b"b" * 4096), "does not speak"),
    "is a web server": ("openpi", http_reply(http_head("Content-Length: 2") + b"OK"), "does not speak websocket"),
    "wants another password": ("openpi", http_reply(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"), "refused the token"),
    "sends no metadata": ("openpi", lambda c: (c.recv(4096), silence(c)), "no answer within"),
    "metadata of 4 GB": ("openpi", lambda c: (openpi_handshake(c, b""), gigabytes(c)), "ends too early"),
    "metadata that is pickle": ("openpi", openpi_metadata(PICKLE), "not msgpack|refused|follow|too early|introduced|more than"),
    "metadata that is a number": ("openpi", openpi_metadata(b"\x01"), "introduced itself"),
    "never answers": ("openpi", openpi_reply(b""), "no answer within"),
    "closes before it answers": ("openpi", lambda c: (openpi_handshake(c), read_websocket_message(c)), "closed"),
    "is cut in a frame": ("openpi", lambda c: (openpi_handshake(c), read_websocket_message(c), c.sendall(websocket_frame(good_actions())[:50])), "closed"),
    "is cut in a frame and stays": ("openpi", openpi_reply(websocket_frame(good_actions())[:50]), "no answer within"),
    "is cut in the message": ("openpi", openpi_reply(websocket_frame(good_actions()[:50])), "ends too early"),
    "a reply of 4 GB": ("openpi", openpi_reply(gigabytes), "broke the websocket protocol"),
    "a reply beyond 2⁶³": ("openpi", openpi_reply(websocket_frame(b"", claim=(1 << 64) - 1)), "broke the websocket protocol"),
    "pickle": ("openpi", openpi_reply(websocket_frame(PICKLE)), "refused|follow|too early"),
    "pickle in an array": ("openpi", openpi_reply(websocket_frame(msgpack_numpy.msgpack.packb({"actions": NUMPY}))), "refused"),
    "deep nesting": ("openpi", openpi_reply(websocket_frame(NESTED)), "nested deeper"),
    "a bomb of maps": ("openpi", openpi_reply(websocket_frame(b"\xdd\x00\x7f\xff\xff" + b"\x80" * 0x7FFFFF)), "broke|more than"),
    "an array of 2³²": ("openpi", openpi_reply(websocket_frame(b"\xdd\xff\xff\xff\xff")), "ends too early"),
    "an error": ("openpi", openpi_reply(websocket_frame(b"Traceback: out of memory", 1)), "out of memory"),
    "nothing": ("openpi", openpi_reply(websocket_frame(b"")), "ends too early"),
    "a list": ("openpi", openpi_reply(websocket_frame(b"\x90")), "not a mapping"),
    "another name": ("openpi", openpi_reply(websocket_frame(msgpack_numpy.packb({"action": ROWS}))), "it has: action"),
    "NaN": ("openpi", openpi_reply(websocket_frame(good_actions(actions=ROWS * np.nan))), "not finite"),
    "infinity": ("openpi", openpi_reply(websocket_frame(good_actions(actions=ROWS + np.inf))), "not finite"),
    "one row too few": ("openpi", openpi_reply(websocket_frame(good_actions(actions=ROWS[1:]))), "shape"),
    "one column too many": ("openpi", openpi_reply(websocket_frame(good_actions(actions=np.zeros((HORIZON, 5))))), "5 columns"),
    "text for actions": ("openpi", openpi_reply(websocket_frame(good_actions(actions="stop"))), "numbers"),
    "two answers": ("openpi", openpi_reply(websocket_frame(good_actions()) * 2), "more than one answer"),
    "a masked frame": ("openpi", openpi_reply(b"\x82\x84\x00\x00\x00\x00abcd"), "broke the websocket protocol"),
    "compressed without asking": ("openpi", openpi_reply(b"\xc2\x01a"), "broke the websocket protocol"),
    "pings for ever": ("openpi", openpi_reply(endless_pings), "1024 frames"),
    "pieces for ever": ("openpi", openpi_reply(endless_fragments), "1024 frames"),
    "gr00t: noise": ("gr00t", lambda c: (c.sendall(b"\x00" * 200), silence(c)), "does not speak ZeroMQ"),
    "gr00t: nothing": ("gr00t", silence, "no answer within"),
    "gr00t: half a greeting": ("gr00t", lambda c: (c.sendall(ZMTP_GREETING[:30]), silence(c)), "no answer within"),
    "gr00t: asks for a password": ("gr00t", lambda c: (c.sendall(ZMTP_GREETING.replace(b"NULL\0", b"PLAIN")), silence(c)), "PLAIN"),
    "gr00t: a publisher": ("gr00t", lambda c: (c.sendall(ZMTP_GREETING + ZMTP_READY.replace(b"REP", b"PUB")), silence(c)), "not one that replies"),
    "gr00t: a command of 4 GB": ("gr00t", lambda c: (c.sendall(ZMTP_GREETING + b"\x06\x00\x00\x00\x01\x00\x00\x00\x00"), silence(c)), "command of"),
    "gr00t: never answers": ("gr00t", gr00t_reply(b""), "no answer within"),
    "gr00t: a reply of 4 GB": ("gr00t", gr00t_reply(b"\x01\x00" + zmtp_frame(b"", claim=4 << 30)), "at most"),
    "gr00t: parts for ever": ("gr00t", gr00t_reply(b"\x01\x00" * 10_000), "more than two parts"),
    "gr00t: an unknown frame": ("gr00t", gr00t_reply(b"\x80\x00"), "unknown kind"),
    "gr00t: no empty part": ("gr00t", gr00t_reply(zmtp_frame(b"\x90")), "an empty part"),
    "gr00t: pickle": ("gr00t", gr00t_reply(b"\x01\x00" + zmtp_frame(PICKLE)), "refused|follow|too early"),
    "gr00t: deep nesting": ("gr00t", gr00t_reply(b"\x01\x00" + zmtp_frame(NESTED)), "nested deeper"),
    "gr00t: an object": ("gr00t", gr00t_reply(b"\x01\x00" + zmtp_frame(b"\x80")), "a list of actions"),
    "gr00t: the word ERROR": ("gr00t", gr00t_reply(b"\x01\x00" + zmtp_frame(b"ERROR")), "follow"),
    "openvla: closes": ("openvla", ignore, "broke HTTP|reset|Broken pipe"),
    "openvla: nothing": ("openvla", silence, "no answer within"),
    "openvla: noise": ("openvla", http_reply(bytes(range(256))), "broke HTTP"),
    "openvla: headers for ever": ("openvla", lambda c: (c.recv(4096), c.sendall(b"HTTP/1.1 200 OK\r\n"), flood(c, b"A: b\r\n" * 1000)), "broke HTTP"),
    "openvla: one line for ever": ("openvla", lambda c: (c.recv(4096), flood(c, b"A" * 65536)), "broke HTTP"),
    "openvla: continue for ever": ("openvla", lambda c: (c.recv(4096), flood(c, b"HTTP/1.1 100 Continue\r\n\r\n" * 100)), "no answer within"),
    "openvla: a reply of 4 GB": ("openvla", lambda c: (http_reply(http_head(f"Content-Length: {4 << 30}"), close=True)(c), flood(c, b"1" * 65536)), "at most"),
    "openvla: a negative length": ("openvla", http_reply(http_head("Content-Length: -1") + b"[1]"), "no answer within"),
    "openvla: cut": ("openvla", http_reply(http_head("Content-Length: 50") + b"[1, 2", close=True), "not JSON|broke HTTP"),
    "openvla: cut and stays": ("openvla", http_reply(http_head("Content-Length: 50") + b"[1, 2"), "no answer within"),
    "openvla: a chunk of 4 GB": ("openvla", lambda c: (http_reply(http_head("Transfer-Encoding: chunked") + b"FFFFFFFFF\r\n", close=True)(c), flood(c, b"1" * 65536)), "at most"),
    "openvla: an error page": ("openvla", http_reply(b"HTTP/1.1 500 No\r\nContent-Length: 3\r\n\r\nwhy"), "HTTP 500: why"),
    "openvla: a redirection": ("openvla", http_reply(b"HTTP/1.1 302 Go\r\nLocation: http://evil/\r\nContent-Length: 0\r\n\r\n"), "HTTP 302"),
    "openvla: NaN": ("openvla", http_json(b"[NaN,0,0,0,0,0,0]"), "NaN"),
    "openvla: infinity in disguise": ("openvla", http_json(b"[1e999,0,0,0,0,0,0]"), "not finite"),
    "openvla: six numbers": ("openvla", http_json(b"[0,0,0,0,0,0]"), "6 columns"),
    "openvla: null": ("openvla", http_json(b"null"), "numbers"),
    "openvla: deep nesting": ("openvla", http_json(b"[" * 500_000), "not JSON"),
    "openvla: deep but right": ("openvla", http_json(b"[" * 500 + b"]" * 500), "array|numbers|shape"),
    "openvla: pickle in an array": ("openvla", http_json(b'{"__numpy__": "gASVHQ==", "dtype": "|O", "shape": [1]}'), "refused"),
}  # fmt: skip
