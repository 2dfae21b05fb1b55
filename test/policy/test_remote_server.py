"""`physai serve`: openpi's own client is served, who may not come in stays out, and nothing a client sends ends it."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from openpi_client import msgpack_numpy
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from remote_peers import HORIZON, SHAPE, Echo, observation, serving, write_config
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from physai_base.bundle import Bundle
from physai_base.embodiment import Embodiment
from physai_base.errors import PolicyError
from physai_base.task import Task
from physai_policy.flow_policy import FlowPolicy
from physai_policy.policy import Observation, Prefix
from physai_policy.remote.client import RemotePolicy
from physai_policy.remote.config import RemoteConfig, RemoteError
from physai_policy.remote.server import MAX_CLIENTS, PolicyServer, ServerSettings

pytestmark = pytest.mark.slow

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(0o600)
    return path


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for localhost and its key, made by openssl."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


@pytest.fixture
def echo() -> Iterator[tuple[PolicyServer, Echo]]:
    policy = Echo()
    with serving(policy) as server:
        yield server, policy


def ask(place: float) -> dict[str, Any]:
    return {"tool_m": np.full(3, place), "gripper_width_m": 0.04, "prompt": "lift it"}


# The command, with openpi's client -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def command() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`physai serve` with the shipped bundle."""
    process = subprocess.Popen(
        [sys.executable, "-m", "physai_lab.cli", "serve", "policy", "--port", "0"],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONSAFEPATH": "1"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        found = re.search(r"on ws://127\.0\.0\.1:(\d+), Ctrl-C", process.stdout.readline())
        assert found
        yield process, int(found[1])
    finally:
        process.kill()
        process.communicate()


def test_openpis_own_client_completes_100_inferences(
    command: tuple[subprocess.Popen[str], int], task: Task, embodiment: Embodiment
) -> None:
    client = WebsocketClientPolicy("127.0.0.1", command[1])
    said = client.get_server_metadata()["physai"]
    local = FlowPolicy(Bundle.open("cups/policy", robot=embodiment.name), task)
    count = said["observation"]["features"]["shape"][0]
    assert (said["space"], said["dt_s"], said["horizon"]) == ("tool_position", local.dt_s, local.horizon)
    random = np.random.default_rng(5)
    for _ in range(100):
        features, tool = random.standard_normal(count).astype(np.float32), random.standard_normal(3)
        reply = client.infer(
            {"features": features, "tool_m": tool, "prompt": "put the red cup on the top shelf"}
        )
        chunk = local.infer(Observation(0, features, tool))
        np.testing.assert_allclose(reply["actions"], chunk.chosen, atol=1e-5)
        np.testing.assert_allclose(reply["samples"], chunk.actions[1:].transpose(1, 0, 2), atol=1e-5)
        assert reply["server_timing"]["infer_ms"] > 0


def test_ctrl_c_ends_it_although_clients_are_connected(command: tuple[subprocess.Popen[str], int]) -> None:
    process, port = command
    clients = [WebsocketClientPolicy("127.0.0.1", port) for _ in range(3)]
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and re.search(r"serve: \d+ inferences", output)
    with pytest.raises(ConnectionClosed):
        clients[0].infer({})


# Who may come in -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "robot.local", ""])
def test_others_are_served_only_with_token_and_tls(
    host: str, token_file: Path, certificate: tuple[Path, Path]
) -> None:
    for settings in ({}, {"token_file": token_file}, {"certificate": certificate[0], "key": certificate[1]}):
        with pytest.raises(RemoteError, match="needs --"):
            ServerSettings(host, 8000, **settings)
    ServerSettings(host, 8000, token_file, *certificate)
    for here in ("127.0.0.1", "127.8.9.1", "::1", "localhost"):
        ServerSettings(here)
    with pytest.raises(RemoteError, match="go together"):
        ServerSettings(certificate=certificate[0])


def test_the_command_refuses_before_it_listens(capsys: pytest.CaptureFixture[str]) -> None:
    from physai_lab.cli import main

    assert main(["serve", "policy", "--host", "0.0.0.0"]) == 1
    assert "--token-file and --certificate and --key" in capsys.readouterr().err


def test_a_token_is_asked_for_and_told_to_nobody(token_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serving(Echo(), token_file=token_file) as server:
        client = WebsocketClientPolicy("127.0.0.1", server.port, api_key=TOKEN)
        assert client.infer(ask(0.1))["actions"].shape == SHAPE
        for key in (None, "wrong", TOKEN[:-1], TOKEN + "x"):
            with pytest.raises(InvalidStatus, match="401"):
                WebsocketClientPolicy("127.0.0.1", server.port, api_key=key)
        with pytest.raises(InvalidStatus, match="401"):  # twice is not once
            connect(
                f"ws://127.0.0.1:{server.port}",
                additional_headers=[
                    ("Authorization", f"Api-Key {TOKEN}"),
                    ("Authorization", f"Api-Key {TOKEN}"),
                ],
            )
        assert urllib.request.urlopen(f"http://127.0.0.1:{server.port}/healthz").read() == b"OK\n"
    assert TOKEN not in caplog.text


def test_web_pages_are_refused(echo: tuple[PolicyServer, Echo]) -> None:
    """Any page in a browser on this machine may open a websocket to it; a browser says which page it was."""
    with pytest.raises(InvalidStatus, match="403"):
        connect(f"ws://127.0.0.1:{echo[0].port}", origin="https://example.org")  # type: ignore[arg-type]


def test_tls_for_openpis_client_and_ours(
    tmp_path: Path,
    token_file: Path,
    certificate: tuple[Path, Path],
    embodiment: Embodiment,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(Echo(), token_file=token_file, certificate=certificate[0], key=certificate[1]) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        client = WebsocketClientPolicy(f"wss://localhost:{server.port}", api_key=TOKEN)
        assert client.infer(ask(0.1))["actions"].shape == SHAPE
        monkeypatch.delenv("SSL_CERT_FILE")

        def ours(extra: str, host: str = "localhost") -> RemotePolicy:
            path = write_config(tmp_path, "openpi", server.port, extra + "timeout_s: 10.0\n", scheme="wss")
            path.write_text(path.read_text().replace("localhost", host))
            return RemotePolicy(RemoteConfig.load(path), embodiment)

        good = "token_file: token\nca_file: certificate.pem\n"
        for _ in range(2):  # on a new connection and on the same
            assert ours(good).infer(observation()).chosen.shape == SHAPE
        with pytest.raises(PolicyError, match="certificate verify failed"):
            ours("token_file: token\n").infer(observation())
        with pytest.raises(PolicyError, match=r"(?i)ip address mismatch|hostname mismatch"):
            ours(good, "127.0.0.1").infer(observation())
        with pytest.raises(PolicyError, match="refused the token"):
            ours("ca_file: certificate.pem\n").infer(observation())
        with pytest.raises((ssl.SSLError, OSError, urllib.error.URLError)):
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/healthz")


# What clients send -----------------------------------------------------------------------------------------

BAD_OBSERVATIONS = {
    "no mapping": ([1], "mapping"),
    "nothing": ({}, "no 'tool_m'"),
    "an unknown key": ({**ask(0.0), "tool": 1}, "may not have tool; allowed: tool_m"),
    "a wrong shape": ({"tool_m": np.zeros(4)}, "tool_m must be numbers of shape (3,)"),
    "NaN": ({"tool_m": np.array([0.0, np.nan, 0.0])}, "not finite"),
    "text for numbers": ({"tool_m": "000"}, "tool_m must be numbers"),
    "ragged numbers": ({"tool_m": [1, 2, "x"]}, "tool_m must be numbers"),
    "joints of another robot": ({**ask(0.0), "joint_rad": np.zeros(6)}, "joint_rad must be numbers of shape (7,)"),
    "images that are none": ({**ask(0.0), "images": {"a": np.zeros((4, 4), np.uint8)}}, "images.a"),
    "images of floats": ({**ask(0.0), "images": {"a": np.zeros((4, 4, 3))}}, "images.a"),
    "too many cameras": ({**ask(0.0), "images": {str(i): 0 for i in range(9)}}, "at most 8"),
    "a prompt of bytes": ({**ask(0.0), "prompt": b"x"}, "prompt"),
    "an endless prompt": ({**ask(0.0), "prompt": "x" * 5000}, "at most 4000"),
    "half a prefix": ({**ask(0.0), "prefix": {"actions": np.zeros((2, 4))}}, "prefix"),
    "a prefix beyond its end": (
        {**ask(0.0), "prefix": {"actions": np.zeros((2, 4)), "frozen": 3, "valid": 2}}, "from 0 to 2",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("message", "reason"), BAD_OBSERVATIONS.values(), ids=BAD_OBSERVATIONS.keys())
def test_a_wrong_observation_is_answered_with_the_reason(
    echo: tuple[PolicyServer, Echo], message: Any, reason: str
) -> None:
    client = WebsocketClientPolicy("127.0.0.1", echo[0].port)
    with pytest.raises(RuntimeError) as caught:
        client.infer(message)
    assert reason in str(caught.value)
    with pytest.raises(ConnectionClosed):  # as openpi's server does
        client.infer(ask(0.1))
    assert WebsocketClientPolicy("127.0.0.1", echo[0].port).infer(ask(0.1))["actions"][0, 0] == 0.1


def test_a_failing_policy_is_not_explained_to_clients_but_answered(echo: tuple[PolicyServer, Echo]) -> None:
    def fail(observation: Observation) -> None:
        raise RuntimeError("/secret/path")

    server, policy = echo
    policy.wait = fail
    with pytest.raises(RuntimeError, match="the policy failed: RuntimeError") as caught:
        WebsocketClientPolicy("127.0.0.1", server.port).infer(ask(0.1))
    assert "secret" not in str(caught.value)


def test_harmful_messages_end_their_connection_alone(echo: tuple[PolicyServer, Echo]) -> None:
    server, _ = echo
    good = WebsocketClientPolicy("127.0.0.1", server.port)
    for data in (b"", b"\x80\x04\x95", "text", b"\xdd\xff\xff\xff\xff", b"\x91" * 10_000, bytes(33 << 20)):
        with connect(f"ws://127.0.0.1:{server.port}", max_size=None, compression=None) as evil:
            evil.recv()
            with pytest.raises(ConnectionClosed):
                evil.send(data)
                while True:
                    evil.recv()
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(os.urandom(4096))
    with socket.create_connection(("127.0.0.1", server.port)):  # says nothing while others are served
        assert good.infer(ask(0.2))["actions"][0, 0] == 0.2


def test_our_client_sends_the_running_chunk(
    echo: tuple[PolicyServer, Echo], tmp_path: Path, embodiment: Embodiment
) -> None:
    server, policy = echo
    client = RemotePolicy(RemoteConfig.load(write_config(tmp_path, "openpi", server.port)), embodiment)
    prefix = Prefix(np.arange(24.0).reshape(HORIZON, 4), frozen=2, valid=4)
    client.infer(observation(), prefix)
    got = policy.prefixes[-1]
    assert got is not None and (got.frozen, got.valid) == (2, 4)
    np.testing.assert_array_equal(got.actions, prefix.actions)
    seen = policy.seen[-1]
    assert seen.instruction == "lift it" and seen.gripper_width_m == 0.04


def test_a_file_that_contradicts_the_server_is_refused(
    echo: tuple[PolicyServer, Echo], tmp_path: Path, embodiment: Embodiment
) -> None:
    path = write_config(tmp_path, "openpi", echo[0].port)
    for ours, theirs in (("dt_s: 0.05", "dt_s: 0.1"), ("horizon: 6", "horizon: 7")):
        changed = tmp_path / "changed.yaml"
        changed.write_text(path.read_text().replace(ours, theirs))
        with pytest.raises(PolicyError, match="the server's"):
            RemotePolicy(RemoteConfig.load(changed), embodiment).infer(observation())


# Several clients -------------------------------------------------------------------------------------------


def test_clients_take_turns(echo: tuple[PolicyServer, Echo]) -> None:
    """While one inference runs, each of the others waits with one; then they are served in the order in which they came."""
    server, policy = echo
    running, go = threading.Event(), threading.Event()
    active = threading.Lock()

    def wait(observation: Observation) -> None:
        assert active.acquire(blocking=False), "two inferences at a time"
        running.set()
        go.wait(30)
        active.release()

    policy.wait = wait
    policy.seen.clear()
    clients = [WebsocketClientPolicy("127.0.0.1", server.port) for _ in range(4)]
    replies: dict[tuple[int, int], float] = {}

    def work(index: int) -> None:
        for turn in range(3):
            reply = clients[index].infer(ask(index + 0.1 * turn))
            replies[index, turn] = reply["actions"][0, 0]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    assert running.wait(30)
    for _ in range(3000):  # until all the others are in the line
        if server._inference._work_queue.qsize() == 3:
            break
        time.sleep(0.01)
    go.set()
    for thread in threads:
        thread.join(30)
    assert replies == {(i, t): pytest.approx(i + 0.1 * t) for i in range(4) for t in range(3)}
    first = [int(seen.tool_m[0]) for seen in policy.seen[:4]]
    assert sorted(first) == [0, 1, 2, 3], "a client was served twice before another once"


def test_there_is_a_limit_to_clients(echo: tuple[PolicyServer, Echo]) -> None:
    clients = [WebsocketClientPolicy("127.0.0.1", echo[0].port) for _ in range(MAX_CLIENTS)]
    with pytest.raises(InvalidStatus, match="503"):
        WebsocketClientPolicy("127.0.0.1", echo[0].port)
    clients[0]._ws.close()
    assert clients[1].infer(ask(0.1))["actions"].shape == SHAPE


def test_replies_hold_nothing_but_plain_arrays(echo: tuple[PolicyServer, Echo]) -> None:
    with connect(f"ws://127.0.0.1:{echo[0].port}", compression=None) as raw:
        raw.recv()
        raw.send(msgpack_numpy.packb(ask(0.3)))
        reply = msgpack.unpackb(raw.recv())
    assert set(reply) == {"actions", "samples", "server_timing"}
    assert reply["actions"][b"dtype"] == "<f8" and reply["samples"][b"shape"] == [HORIZON, 2, 4]
