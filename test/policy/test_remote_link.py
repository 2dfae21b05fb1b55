"""Remote policies over a bad link: slow, stalled, half open, cut anywhere, a server that was started again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from remote_peers import (
    DT_S,
    HORIZON,
    Echo,
    Gr00tServer,
    Make,
    OpenvlaServer,
    Proxy,
    observation,
    serving,
)  # fmt: skip

from physai_base.embodiment import Embodiment
from physai_base.errors import PolicyError
from physai_policy.remote.client import RemotePolicy

pytestmark = pytest.mark.slow


def answers(policy: RemotePolicy, count: int) -> tuple[int, list[str]]:
    """How many of `count` questions were answered, each with its own answer; and why the others were not."""
    good, reasons = 0, []
    for i in range(count):
        place = (0.001 * i, 0.2, 0.3)
        policy._retry_at_s = 0.0  # back-off has a test of its own
        try:
            chunk = policy.infer(observation(place))
        except PolicyError as error:
            reasons.append(str(error))
            continue
        np.testing.assert_allclose(chunk.chosen[0, :3], place)
        good += 1
    return good, reasons


def test_a_slow_link_costs_time_and_the_time_is_known(make: Make) -> None:
    with serving(Echo()) as server, Proxy(server.port) as link:
        link.delay_s = 0.02
        policy = make("openpi", link.port)
        assert answers(policy, 20) == (20, [])
        timing = policy.last_timing
        assert timing is not None and timing.network_ms is not None and timing.network_ms >= 40.0


def test_on_a_link_that_stalls_no_answer_is_taken_for_another(make: Make) -> None:
    with serving(Echo()) as server, Proxy(server.port) as link:
        policy = make("openpi", link.port, "timeout_s: 0.5\n")
        answers(policy, 1)
        link.stall_share, link.stall_s = 0.05, 0.8
        good, reasons = answers(policy, 100)
        assert reasons and all("no answer within 0.5 s" in reason for reason in reasons)
        assert good > 20


def test_a_half_open_link_ends_at_the_deadline_and_heals(make: Make) -> None:
    with serving(Echo()) as server, Proxy(server.port) as link:
        policy = make("openpi", link.port)
        assert answers(policy, 5) == (5, [])
        policy = make("openpi", link.port, "timeout_s: 0.3\n")
        answers(policy, 1)
        link.dead = True
        good, reasons = answers(policy, 3)
        assert good == 0 and all("no answer within 0.3 s" in reason for reason in reasons)
        link.dead = False
        assert answers(make("openpi", link.port), 5) == (5, [])


@pytest.mark.parametrize("kind", ["openpi", "gr00t", "openvla"])
def test_a_link_that_breaks_anywhere_is_an_error_and_never_half_an_answer(
    make: Make, kind: str, embodiment: Embodiment
) -> None:
    def get_action(observation: dict[str, Any], options: Any) -> Any:
        return {
            "arm": np.zeros((1, HORIZON, 7), np.float32),
            "hand": np.zeros((1, HORIZON, 1), np.float32),
        }, {}

    peers = {
        "openpi": lambda: serving(Echo()),
        "gr00t": lambda: Gr00tServer(get_action),
        "openvla": lambda: OpenvlaServer(lambda payload: np.zeros(7)),
    }
    with peers[kind]() as server, Proxy(server.port) as link:
        policy = make(kind, link.port)
        for cut_after in range(1, 400, 37):
            link.cut_after = cut_after
            policy._retry_at_s = 0.0
            try:
                chunk = policy.infer(observation(robot=embodiment))
            except PolicyError:
                continue
            assert chunk.actions.shape[1] == policy.horizon  # all of it came before the cut
            policy.close()
        link.cut_after = None
        policy._retry_at_s = 0.0
        assert policy.infer(observation(robot=embodiment)).dt_s in (DT_S, 0.2)


def test_a_server_that_was_started_again_is_found_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Echo()) as first:
        policy = make("openpi", first.port)
        assert answers(policy, 2) == (2, [])
    with pytest.raises(PolicyError):
        policy.infer(observation())
    monkeypatch.setattr(
        "remote_peers.ServerSettings", lambda port: type(first.settings)(port=first.port)
    )  # the same port again
    with serving(Echo()) as second:
        assert second.port == first.port
        assert answers(policy, 2) == (2, [])
