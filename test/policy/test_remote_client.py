"""Clients of remote policies: their own servers understand them, and none can hold, fool or swell them."""

from __future__ import annotations

import socket
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evil_servers import EVIL, NESTED, ROWS
from remote_peers import (
    HORIZON,
    SHAPE,
    Echo,
    EvilServer,
    Gr00tServer,
    Make,
    OpenvlaServer,
    flood,
    good_actions,
    observation,
    openpi_handshake,
    openpi_reply,
    read_websocket_message,
    serving,
    silence,
    websocket_frame,
)  # fmt: skip
from transforms3d.euler import euler2mat
from transforms3d.quaternions import quat2mat

from physai_base.embodiment import Embodiment
from physai_base.errors import PolicyError
from physai_base.kinematics import ArmKinematics
from physai_policy.policy import ActionSpace

pytestmark = pytest.mark.slow

MEMORY = 64 << 20


# The projects' own servers ---------------------------------------------------------------------------------


def test_our_server_and_our_client(make: Make) -> None:
    with serving(Echo()) as server:
        policy = make("openpi", server.port)
        for i in range(20):
            chunk = policy.infer(observation((0.1 * i, 0.0, 0.5)))
            assert chunk.space is ActionSpace.TOOL_POSITION and chunk.actions.shape == (1, *SHAPE)
            np.testing.assert_allclose(chunk.chosen[0], [0.1 * i, 0.0, 0.5, 0.04])
        timing = policy.last_timing
        assert timing is not None and timing.server_ms is not None and timing.network_ms is not None
        assert 0 < timing.server_ms < timing.total_ms
        assert timing.network_ms == pytest.approx(timing.total_ms - timing.server_ms)


@pytest.mark.parametrize("token", ["", "0123456789abcdef"])
def test_gr00ts_server_on_real_zeromq(make: Make, token: str, tmp_path: Path, embodiment: Embodiment) -> None:
    """It checks the observation as gr00t_policy.py's check_observation does."""

    def get_action(observation: dict[str, Any], options: Any) -> Any:
        video, state = observation["video"]["front"], observation["state"]
        assert video.dtype == np.uint8 and video.shape == (1, 1, 32, 32, 3)
        assert state["arm"].dtype == state["hand"].dtype == np.float32
        assert state["arm"].shape == (1, 1, 7) and state["hand"].shape == (1, 1, 1)
        assert observation["language"] == {"annotation.human.task_description": [["lift it"]]}
        assert options is None
        arm = np.repeat(state["arm"], HORIZON, axis=1)
        return {"arm": arm, "hand": np.full((1, HORIZON, 1), 0.03, np.float32)}, {}

    extra = "timeout_s: 10.0\n"
    if token:
        (tmp_path / "token").write_text(token)
        (tmp_path / "token").chmod(0o600)
        extra += "token_file: token\n"
    with Gr00tServer(get_action, token or None) as server:
        policy = make("gr00t", server.port, extra)
        for _ in range(20):
            chunk = policy.infer(observation(robot=embodiment))
            assert chunk.space is ActionSpace.JOINT_POSITION
            np.testing.assert_allclose(
                chunk.chosen, np.tile([*embodiment.home, 0.03], (HORIZON, 1)), atol=1e-6
            )
        assert policy.last_timing is not None and policy.last_timing.network_ms is None
        assert [request["endpoint"] for request in server.requests] == ["get_action"] * 20


def test_gr00ts_server_says_why_not(make: Make) -> None:
    def get_action(**data: Any) -> Any:
        raise ValueError("out of memory")

    with Gr00tServer(get_action) as server, pytest.raises(PolicyError, match="out of memory"):
        make("gr00t", server.port).infer(observation())
    with Gr00tServer(get_action, "a token") as server, pytest.raises(PolicyError, match="Unauthorized"):
        make("gr00t", server.port).infer(observation())


@pytest.mark.parametrize("batch", [False, True], ids=["one action", "OpenVLA-OFT's list"])
def test_openvlas_server(make: Make, batch: bool, embodiment: Embodiment, kinematics: ArmKinematics) -> None:
    action = np.array([0.01, -0.02, 0.03, 0.1, 0.2, -0.1, 1.0])
    with OpenvlaServer(lambda payload: [action] if batch else action) as server:
        policy, seen = make("openvla", server.port), observation(robot=embodiment)
        for _ in range(3):
            chunk = policy.infer(seen)
        assert chunk.space is ActionSpace.TOOL_POSE and chunk.actions.shape == (1, 2, 8) and chunk.dt_s == 0.2
        start = kinematics.tool_pose(embodiment.home).rotation
        np.testing.assert_allclose(chunk.chosen[:, :3], [seen.tool_m, seen.tool_m + action[:3]])
        np.testing.assert_allclose(
            quat2mat(chunk.chosen[1, 3:7]), euler2mat(0.1, 0.2, -0.1) @ start, atol=1e-9
        )
        assert chunk.chosen[:, 7] == pytest.approx(0.08)
        request = server.requests[0]
        assert request["image"].shape == (32, 32, 3) and request["image"].dtype == np.uint8
        assert request["instruction"] == "lift it" and request["unnorm_key"] == "bridge_orig"
        assert server.connections == 1


def test_openvlas_server_says_that_it_failed(make: Make) -> None:
    def fail(payload: Any) -> Any:
        raise RuntimeError

    with OpenvlaServer(fail) as server, pytest.raises(PolicyError, match="answered 'error'"):
        make("openvla", server.port).infer(observation())


# Servers that mean harm ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVIL)
def test_no_server_does_worse_than_a_policy_error(make: Make, name: str) -> None:
    kind, script, reason = EVIL[name]
    with EvilServer(script) as server:
        # Long where the server answers and the answer is at fault, so that nothing is a time-out by accident.
        policy = make(kind, server.port, f"timeout_s: {0.5 if 'no answer' in reason else 30.0}\n")
        tracemalloc.start()
        try:
            with pytest.raises(PolicyError, match=reason) as caught:
                policy.infer(observation())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < MEMORY
        assert str(caught.value).startswith(f"{kind} server {policy.config.address}: ")
        assert policy._stream is None, "a connection is not kept after an error"
        with pytest.raises(PolicyError):  # the second attempt, on a new connection
            policy.infer(observation())
        assert server.accepted == 2


def test_a_good_server_is_used_again_after_a_bad_one(make: Make) -> None:
    answers = iter([NESTED, good_actions(actions=ROWS + 0.5)])

    def script(connection: socket.socket) -> None:
        openpi_handshake(connection)
        read_websocket_message(connection)
        connection.sendall(websocket_frame(next(answers)))
        silence(connection)

    with EvilServer(script) as server:
        policy = make("openpi", server.port)
        with pytest.raises(PolicyError, match="nested deeper"):
            policy.infer(observation())
        np.testing.assert_allclose(policy.infer(observation()).chosen, 0.5)


def test_a_message_in_pieces_with_pings_between_is_one_message(make: Make) -> None:
    data = good_actions(actions=ROWS + 0.25)
    pieces = (
        websocket_frame(data[:10], 2, fin=False) + websocket_frame(b"hi", 9) + websocket_frame(data[10:], 0)
    )
    with EvilServer(openpi_reply(pieces)) as server:
        np.testing.assert_allclose(make("openpi", server.port).infer(observation()).chosen, 0.25)


def test_what_comes_in_a_pause_is_not_the_next_answer(make: Make) -> None:
    """Pings are answered; an answer that nobody asked for ends the connection, and a new one is asked."""
    said = threading.Semaphore(0)
    pongs: list[int] = []

    def script(connection: socket.socket) -> None:
        openpi_handshake(connection)
        first = server.accepted == 1
        for turn in range(9):
            header = connection.recv(2, socket.MSG_PEEK)
            if header and header[0] & 0x0F == 10:
                pongs.append(turn)
                connection.recv(6)
            read_websocket_message(connection)
            connection.sendall(websocket_frame(good_actions(actions=ROWS + turn + 10 * server.accepted)))
            time.sleep(0.05)  # after the answer was read
            connection.sendall(websocket_frame(b"", 9) if turn == 0 else websocket_frame(good_actions()))
            said.release()
            if not first:
                silence(connection)

    with EvilServer(script) as server:
        policy = make("openpi", server.port)
        for expected in (10, 11, 20):
            assert policy.infer(observation()).chosen[0, 0] == expected
            assert said.acquire(timeout=30)
        assert pongs == [1]


@pytest.mark.parametrize(
    "flooded", [websocket_frame(b"", 9), websocket_frame(good_actions())], ids=["pings", "answers"]
)
def test_a_flood_in_a_pause_ends_its_connection(make: Make, flooded: bytes) -> None:
    def script(connection: socket.socket) -> None:
        openpi_handshake(connection)
        read_websocket_message(connection)
        connection.sendall(websocket_frame(good_actions(actions=ROWS + server.accepted)))
        if server.accepted == 1:
            time.sleep(0.2)  # until the answer was read
            flooding.set()
            flood(connection, flooded * 100)
        silence(connection)

    flooding = threading.Event()
    with EvilServer(script) as server:
        policy = make("openpi", server.port)
        assert policy.infer(observation()).chosen[0, 0] == 1
        assert flooding.wait(30)
        time.sleep(0.1)
        assert policy.infer(observation()).chosen[0, 0] == 2
