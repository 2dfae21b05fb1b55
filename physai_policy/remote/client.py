"""A policy that runs on another machine."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from physai_base.embodiment import Embodiment
from physai_base.errors import PolicyError
from physai_base.kinematics import ArmKinematics
from physai_policy.policy import Observation, Prefix, Proposal
from physai_policy.remote.config import RemoteConfig, RemoteError, require_packages
from physai_policy.remote.gr00t import Gr00tConversation
from physai_policy.remote.mapping import cameras_in, fill
from physai_policy.remote.openpi import OpenpiConversation
from physai_policy.remote.openvla import OpenvlaConversation
from physai_policy.remote.stream import Clock, Deadline, Stream

BACK_OFF_S = (0.1, 5.0)  # after the second failure in a row, and at most; doubled between

_log = logging.getLogger(__name__)


class Conversation(Protocol):
    """What is said on one connection, after what one protocol asks for at its start."""

    metadata: Mapping[str, Any]

    def ask(self, observation: Mapping[str, Any]) -> Mapping[str, Any]:
        """The server's reply."""
        ...

    def server_ms(self, reply: Mapping[str, Any]) -> float | None:
        """How long the server says it took."""
        ...

    def is_usable(self) -> bool:
        """Whether a further question can be asked after a pause."""
        ...


CONVERSATIONS: Mapping[str, Any] = {
    "openpi": OpenpiConversation, "gr00t": Gr00tConversation, "openvla": OpenvlaConversation,
}  # fmt: skip


@dataclass(frozen=True)
class Timing:
    """Where the time of one inference went."""

    total_ms: float  # from the observation to a checked chunk
    server_ms: float | None  # what the server says it took; None from servers that do not say

    @property
    def network_ms(self) -> float | None:
        """What is neither the server's: both ways, waiting in line and packing."""
        return None if self.server_ms is None else max(0.0, self.total_ms - self.server_ms)


class RemotePolicy:
    """A `Policy` whose network stands behind an openpi, GR00T or OpenVLA server.

    Every inference ends within `timeout_s` (until the first answer `start_timeout_s`), from the name look-up to the check of the reply, with a chunk or a
    `PolicyError`. After an error the connection is closed: half an answer is never continued and a late one never
    taken for the next. Then it is tried again with growing pauses, in which `infer` fails at once. Not for several
    threads at a time.
    """

    def __init__(self, config: RemoteConfig, embodiment: Embodiment, clock: Clock = time.monotonic) -> None:
        """Nothing is connected yet; the server's state shows with the first inference.

        Raises:
            RemoteError: the file's certificates, columns or scale cannot be used, or the extra `remote` is missing.
        """
        require_packages()
        actions, joints = config.actions, len(embodiment.joints)
        width = actions.width(joints)
        if (actions.columns and len(actions.columns) != width) or (
            actions.scale and len(actions.scale) != width - 1
        ):
            raise RemoteError(
                f"{config.path}: {actions.space.value} of {embodiment.name} has {width} columns: give as many "
                f"`columns` and one less `scale`, or none"
            )
        self.config = config
        self.name, self.dt_s, self.horizon = config.name, actions.dt_s, actions.rows
        self.space = actions.space
        self.cameras = cameras_in(config.observation)
        self.last_timing: Timing | None = None
        self._clock, self._joints = clock, joints
        self._tool_pose = ArmKinematics(embodiment).tool_pose
        self._tls = config.tls_context()
        self._stream: Stream | None = None
        self._conversation: Conversation | None = None
        self._failures, self._retry_at_s, self._reason = 0, -float("inf"), ""
        self._allowed_s = (
            config.start_timeout_s
        )  # a server may have to compile first; the node asks before it is active
        if config.exposed:
            _log.warning(
                "%s: %s has no %s: whoever is on the way can read the images and choose the motion",
                config.path, config.address, config.exposed,
            )  # fmt: skip

    def infer(self, observation: Observation, prefix: Prefix | None = None) -> Proposal:
        """A chunk for one observation; `prefix` goes to servers that say they can continue one (physai's own).

        Raises:
            PolicyError: within `timeout_s`, when there is no usable answer.
        """
        began = self._clock()
        if began < self._retry_at_s:
            raise PolicyError(f"{self._reason}; the next attempt is in {self._retry_at_s - began:.1f} s")
        message = fill(self.config.observation, observation, self.config.gripper, self._tool_pose)
        try:
            deadline = Deadline.after(self._allowed_s, self._clock)
            chunk, server_ms = self._exchange(message, observation, prefix, deadline)
        except Exception as error:
            if not isinstance(
                error, OSError | PolicyError
            ):  # nobody thought of it: the same end, and a trace
                _log.exception("%s", self.config.address)
            self._fail(error)
            raise PolicyError(self._reason) from error
        except BaseException:
            self.close()
            raise
        self._failures, self._allowed_s = 0, self.config.timeout_s
        self.last_timing = Timing((self._clock() - began) * 1e3, server_ms)
        return chunk

    def close(self) -> None:
        """Close the connection; the next inference opens another."""
        if self._stream is not None:
            self._stream.close()
        self._stream = self._conversation = None

    def _exchange(
        self, message: dict[str, Any], observation: Observation, prefix: Prefix | None, deadline: Deadline
    ) -> tuple[Proposal, float | None]:
        conversation = self._connected(deadline)
        if prefix is not None and _physai(conversation.metadata).get("continues_chunks") is True:
            message["prefix"] = {"actions": prefix.actions, "frozen": prefix.frozen, "valid": prefix.valid}
        reply = conversation.ask(message)
        if not isinstance(reply, Mapping):
            raise PolicyError(f"the reply is a {type(reply).__name__}, not a mapping")
        chunk = self.config.actions.chunk(reply, observation, self._joints, self._tool_pose)
        deadline.left_s()  # what comes late is of no use
        return chunk, conversation.server_ms(reply)

    def _connected(self, deadline: Deadline) -> Conversation:
        if self._stream is not None and self._conversation is not None:
            self._stream.deadline = deadline
            if self._conversation.is_usable():
                return self._conversation
            self.close()
        config = self.config
        self._stream = Stream.connect(config.host, config.port, self._tls, deadline)
        conversation: Conversation = CONVERSATIONS[config.kind](self._stream, config)
        self._check(conversation.metadata)
        self._conversation = conversation
        return conversation

    def _check(self, metadata: Mapping[str, Any]) -> None:
        """What a server of ours says about its chunks must be what the file says; other servers say nothing."""
        actions, theirs = self.config.actions, _physai(metadata)
        for key, ours in (
            ("space", actions.space.value),
            ("dt_s", actions.dt_s),
            ("horizon", actions.horizon),
        ):
            if theirs.get(key, ours) != ours:
                raise PolicyError(
                    f"the server's {key} is {theirs[key]!s:.80}, {self.config.path} says {ours}"
                )

    def _fail(self, error: Exception) -> None:
        self.close()
        self._failures += 1
        pause_s = (
            0.0
            if self._failures < 2
            else min(BACK_OFF_S[0] * 2 ** min(self._failures - 2, 16), BACK_OFF_S[1])
        )
        self._retry_at_s = self._clock() + pause_s
        late = isinstance(error, TimeoutError)
        text = f"no answer within {self._allowed_s:g} s" if late else str(error) or type(error).__name__
        self._reason = f"{self.config.kind} server {self.config.address}: {text}"


def _physai(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """What `PolicyServer` says about itself; nothing from other servers."""
    said = metadata.get("physai")
    return said if isinstance(said, Mapping) else {}
