"""Serves a policy to openpi's clients: `physai serve`.

The protocol is that of openpi's websocket_policy_server.py: metadata first, then one reply for each observation, a
text message with the reason before the connection closes on an error, HTTP 200 on /healthz.
"""

from __future__ import annotations

import asyncio
import hmac
import http
import logging
import signal
import ssl
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from physai_base.errors import PhysaiError, PolicyError
from physai_policy.policy import Observation, Policy, Prefix, Proposal
from physai_policy.remote import wire
from physai_policy.remote.config import RemoteError, is_loopback, read_token, require_packages
from physai_policy.remote.wire import WireLimits

if TYPE_CHECKING:
    from websockets.asyncio.server import Request, Response, Server, ServerConnection

REQUEST = WireLimits(bytes=32 << 20)  # four images of 1080p, with room
MAX_CLIENTS = 8
MAX_CAMERAS = 8
MAX_PROMPT = 4000
HEALTH = "/healthz"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerSettings:
    """Where to listen, and who may talk.

    Raises:
        RemoteError: others could reach the server without a token and TLS, or a file cannot be used.
    """

    host: str = "127.0.0.1"
    port: int = 8000  # 0: any that is free
    token_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        missing = [
            option
            for option, value in (
                ("--token-file", self.token_file),
                ("--certificate and --key", self.certificate),
            )
            if value is None
        ]
        if missing and not is_loopback(self.host):
            raise RemoteError(
                f"--host {self.host}: a server that other machines reach needs {' and '.join(missing)}; "
                "or use --host 127.0.0.1 and a tunnel such as ssh -L"
            )
        if (self.certificate is None) != (self.key is None):
            raise RemoteError("--certificate and --key go together")

    def token(self) -> str:
        """What clients must know; empty for anybody."""
        return read_token(self.token_file) if self.token_file is not None else ""

    def tls_context(self) -> ssl.SSLContext | None:
        """For wss://, when there is a certificate."""
        if self.certificate is None or self.key is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.certificate, self.key)
        except OSError as error:  # also ssl.SSLError
            raise RemoteError(
                f"{self.certificate}, {self.key}: cannot be used as certificate and key: {error}"
            ) from error
        return context


class ObservationReader:
    """Turns a client's message into an observation, or says what is wrong with it."""

    def __init__(self, features: tuple[str, ...], joints: int) -> None:
        self._features, self._joints = features, joints

    def described(self) -> dict[str, Any]:
        """What each key holds, for the metadata."""
        return {
            **({"features": {"shape": [len(self._features)], "names": list(self._features)}} if self._features else {}),
            "tool_m": {"shape": [3], "unit": "m", "frame": "base"},
            "joint_rad": {"shape": [self._joints], "unit": "rad", "optional": True},
            "gripper_width_m": {"shape": [], "unit": "m", "optional": True},
            "images": {"of": "camera name → (h, w, 3) uint8 RGB", "optional": True},
            "prompt": {"of": "text", "optional": True},
            "stamp_ns": {"shape": [], "unit": "ns", "optional": True},
            "prefix": {
                "of": "actions (H, D), frozen, valid: the chunk that runs, from this observation on", "optional": True,
            },
        }  # fmt: skip

    def read(self, message: Any) -> tuple[Observation, Prefix | None]:
        """The observation, and the running chunk if the client sent it.

        Raises:
            PolicyError: a key is missing or unknown, or its value is not as described.
        """
        if not isinstance(message, Mapping):
            raise PolicyError(f"an observation is a mapping, got {type(message).__name__}")
        known = self.described()
        unknown = sorted(str(key)[:40] for key in message if key not in known)
        if unknown:
            raise PolicyError(
                f"the observation may not have {', '.join(unknown[:8])}; allowed: {', '.join(known)}"
            )
        count = len(self._features)
        joints = (
            self._numbers(message, "joint_rad", (self._joints,)) if "joint_rad" in message else np.zeros(0)
        )
        observation = Observation(
            stamp_ns=int(self._numbers(message, "stamp_ns", ())) if "stamp_ns" in message else time.time_ns(),
            features=self._numbers(message, "features", (count,)).astype(np.float32) if count else np.zeros(0, np.float32),
            tool_m=self._numbers(message, "tool_m", (3,)),
            joint_rad=joints,
            gripper_width_m=float(self._numbers(message, "gripper_width_m", ())) if "gripper_width_m" in message else 0.0,
            images=self._images(message.get("images", {})),
            instruction=self._prompt(message.get("prompt", "")),
        )  # fmt: skip
        return observation, self._prefix(message.get("prefix"))

    @staticmethod
    def _numbers(message: Mapping[str, Any], key: str, shape: tuple[int, ...]) -> np.ndarray:
        if key not in message:
            raise PolicyError(f"the observation has no {key!r}")
        value = message[key]
        array = (
            np.asarray(value)
            if isinstance(value, np.ndarray | np.generic | int | float | list)
            else np.array(None)
        )
        if array.dtype.kind not in "fiu" or array.shape != shape:
            raise PolicyError(f"{key} must be numbers of shape {shape}, got {array.dtype} {array.shape}")
        if not np.isfinite(array).all():
            raise PolicyError(f"{key} holds a number that is not finite")
        return array.astype(float)

    @staticmethod
    def _images(value: Any) -> dict[str, np.ndarray]:
        if not isinstance(value, Mapping) or len(value) > MAX_CAMERAS:
            raise PolicyError(f"images must be a mapping from at most {MAX_CAMERAS} cameras to arrays")
        for camera, image in value.items():
            good = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3
            if not isinstance(camera, str) or not good or image.shape[2] != 3 or 0 in image.shape:
                raise PolicyError(f"images.{str(camera)[:40]} must be uint8 of shape (h, w, 3)")
        return dict(value)

    @staticmethod
    def _prompt(value: Any) -> str:
        if not isinstance(value, str) or len(value) > MAX_PROMPT:
            raise PolicyError(f"prompt must be a text of at most {MAX_PROMPT} characters")
        return value

    @classmethod
    def _prefix(cls, value: Any) -> Prefix | None:
        if value is None:
            return None
        actions = value.get("actions") if isinstance(value, Mapping) else None
        if (
            not isinstance(actions, np.ndarray)
            or actions.ndim != 2
            or set(value) != {"actions", "frozen", "valid"}
        ):
            raise PolicyError("prefix must have actions of shape (H, D), frozen and valid")
        numbers = cls._numbers(value, "actions", actions.shape)
        frozen, valid = value["frozen"], value["valid"]
        if not all(type(count) is int and 0 <= count <= len(numbers) for count in (frozen, valid)):
            raise PolicyError(f"prefix.frozen and prefix.valid must be from 0 to {len(numbers)}")
        return Prefix(numbers, frozen, valid)


def reply_to(chunk: Proposal) -> dict[str, Any]:
    """A chunk as openpi's clients read it: arrays whose first axis is the step, which their chunk broker slices."""
    reply: dict[str, Any] = {"actions": np.ascontiguousarray(chunk.chosen)}
    if len(chunk.actions) > 1:
        reply["samples"] = np.ascontiguousarray(chunk.actions[1:].transpose(1, 0, 2))  # (H, K, D)
    return reply


class PolicyServer:
    """Serves one policy; inferences run one at a time, in the order in which their observations came.

    A client has at most one observation in the line, so that none can keep the others from theirs.
    """

    def __init__(
        self,
        policy: Policy,
        reader: ObservationReader,
        settings: ServerSettings,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """`about`: what else the metadata says. The policy's first inference, the slow one, runs here."""
        require_packages()
        self._policy, self._reader, self.settings = policy, reader, settings
        self._token, self._tls = settings.token(), settings.tls_context()
        self._clients = 0
        self._inference = ThreadPoolExecutor(1, thread_name_prefix="infer")
        self._about = dict(about or {})
        self.port = settings.port  # the true one once clients can connect
        self.answered = 0

    def metadata(self, example: Observation) -> dict[str, Any]:
        """What a client is told first; the policy says its space with a chunk for `example`."""
        chunk = self._policy.infer(example)
        return {
            "physai": {
                **self._about, "policy": self._policy.name, "space": chunk.space.value, "dt_s": chunk.dt_s,
                "horizon": len(chunk.chosen), "columns": chunk.chosen.shape[1], "continues_chunks": True,
                "observation": self._reader.described(),
            }
        }  # fmt: skip

    def run(self, example: Observation, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGINT, SIGTERM or `stop`; `ready` is called when clients can connect."""
        self._metadata = wire.pack_openpi(self.metadata(example))
        asyncio.run(self._run(ready))

    def stop(self) -> None:
        """End `run`, from any thread."""
        self._loop.call_soon_threadsafe(self._stopped.set)

    async def _run(self, ready: Callable[[], None]) -> None:
        from websockets.asyncio.server import serve

        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._loop.add_signal_handler(number, self._stopped.set)
            except (ValueError, RuntimeError):  # not in the main thread, where signals are somebody else's
                break
        try:
            server = await serve(
                self._serve_client, self.settings.host, self.settings.port, ssl=self._tls,
                process_request=self._admit, origins=[None],  # a browser says its origin, and has no business here
                compression=None, max_size=REQUEST.bytes, max_queue=1, close_timeout=1.0,
            )  # fmt: skip
        except OSError as error:
            raise RemoteError(
                f"{self.settings.host}:{self.settings.port}: {error.strerror or error}"
            ) from error
        try:
            self.port = server.sockets[0].getsockname()[1]
            ready()
            await self._stopped.wait()
        finally:
            self._end(server)

    def _end(self, server: Server) -> None:
        """At once: nobody is waited for."""
        for connection in server.connections:
            connection.transport.abort()
        server.close(close_connections=False)
        self._inference.shutdown(wait=False, cancel_futures=True)

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        if request.path == HEALTH:
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        given = request.headers.get_all("Authorization")
        if self._token and not (
            len(given) == 1 and hmac.compare_digest(given[0].encode(), f"Api-Key {self._token}".encode())
        ):
            _log.warning("%s was refused: no or a wrong token", connection.remote_address)
            return connection.respond(
                http.HTTPStatus.UNAUTHORIZED, "a token is needed: Authorization: Api-Key …\n"
            )
        if self._clients >= MAX_CLIENTS:
            return connection.respond(
                http.HTTPStatus.SERVICE_UNAVAILABLE, f"{MAX_CLIENTS} clients are connected\n"
            )
        return None

    async def _serve_client(self, connection: ServerConnection) -> None:
        from websockets.exceptions import ConnectionClosed

        self._clients += 1
        try:
            await connection.send(self._metadata)
            previous_ms: float | None = None
            while True:
                data = await connection.recv()
                began = time.monotonic()
                reply = await self._answer(data, previous_ms)
                if isinstance(reply, str):
                    await connection.send(reply)
                    await connection.close(1011, "the previous message says why")
                    return
                await connection.send(reply)
                previous_ms = (time.monotonic() - began) * 1e3
        except ConnectionClosed:
            pass
        finally:
            self._clients -= 1

    async def _answer(self, data: str | bytes, previous_ms: float | None) -> bytes | str:
        """The reply, packed, or why there is none."""
        came = time.monotonic()
        try:
            if isinstance(data, str):
                raise PolicyError("an observation is a binary message, got text")
            chunk, began, ended = await self._loop.run_in_executor(self._inference, self._infer, data)
        except PhysaiError as error:
            return str(error)
        except Exception as error:
            _log.exception("an inference failed")
            return f"the policy failed: {type(error).__name__}"
        timing = {"infer_ms": (ended - began) * 1e3, "wait_ms": (began - came) * 1e3}
        if previous_ms is not None:
            timing["prev_total_ms"] = previous_ms
        self.answered += 1
        return wire.pack_openpi({**reply_to(chunk), "server_timing": timing})

    def _infer(self, data: bytes) -> tuple[Proposal, float, float]:
        began = time.monotonic()
        observation, prefix = self._reader.read(wire.unpack_openpi(data, REQUEST))
        chunk = self._policy.infer(observation, prefix)
        return chunk, began, time.monotonic()
