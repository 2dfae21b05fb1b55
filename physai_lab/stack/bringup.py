"""`physai up`: the graph's processes, started and stopped without `launch`."""

from __future__ import annotations

import argparse
import collections
import contextlib
import fcntl
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from physai_base.errors import PhysaiError
from physai_base.resources import share_directory
from physai_ros.budget import RestartBudget
from physai_ros.graph import (
    ARGUMENTS,
    RESPAWN_DELAY_S,
    Graph,
    NodeSpec,
    bringup_graph,
    middleware_environment,
    ros_arguments,
)
from physai_ros.notify import READY, RETRY, Listener, notify

EXIT_CONFIGURATION = 78  # of a node that refuses its configuration: starting it again would not help
STOP_ORDERLY_S = 1.2  # for the supervisor to take the nodes down
STOP_TERM_S = 2.0
STOP_KILL_S = 2.5  # all after the request; nothing lives on after 3 s
LINES_KEPT = 5000  # that wait to be shown; beyond that they are lost
STOP_SHOWING_S = 0.5  # for those that wait when the stack has ended
_COLOURS = (36, 33, 32, 35, 34, 96, 93)


class StackError(PhysaiError):
    """The stack did not come up, or ended by itself; the message names the node and its reason.

    `exit_code` is 78 where a node refuses its configuration, else 1.
    """

    def __init__(self, reason: str, node_code: int = 1) -> None:
        super().__init__(reason)
        self.exit_code = EXIT_CONFIGURATION if node_code == EXIT_CONFIGURATION else 1


class Stack:
    """The processes of one graph; use it as a context manager.

        with Stack(bringup_graph(policy="policy")) as stack:
            stack.wait_ready()
            ...

    Each process leads a process group of its own, is started again as its NodeSpec allows, and is gone, with its
    shared memory, at most 3 s after the block is left.
    """

    def __init__(
        self,
        graph: Graph,
        output: Callable[[str, str], None] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`output` gets every line that a process prints, after the process's name; None discards them."""
        self.graph = graph
        self.starts: dict[str, int] = {}
        self._output = output or (lambda name, line: None)
        self._lines: queue.Queue[tuple[str, str] | None] = queue.Queue(LINES_KEPT)
        self._lines_lost = 0
        self._shower = threading.Thread(target=self._show, name="output", daemon=True)
        self._shower.start()
        self._environment = {
            **stack_environment(),
            "PHYSAI_STARTER_PID": str(os.getpid()),
            **(environment or {}),
        }
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._readers: list[threading.Thread] = []
        self._last_lines: dict[str, collections.deque[str]] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._ready = threading.Event()
        self._failure, self._failure_code = "", 1
        self._status = ""
        self._listener = Listener()
        self._budgets = {spec.name: RestartBudget(spec.respawn) for spec in graph.nodes}
        self._began_s = time.time()

    def __enter__(self) -> Stack:
        """Start every process."""
        try:
            for spec in self.graph.nodes:
                self._start(spec)
        except BaseException:
            self.stop()
            raise
        self._watcher = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop every process."""
        self.stop()

    @property
    def failure(self) -> str:
        """Why the stack ended by itself, empty if it did not."""
        return self._failure

    @property
    def status(self) -> str:
        """How the bring-up stands, as its supervisor says it: a state and, for a person, what is missing."""
        return self._status

    def pid(self, name: str) -> int:
        """Process id of a node's present process."""
        return self._processes[name].pid

    def alive(self, name: str) -> bool:
        """Whether the node's present process runs."""
        return self._processes[name].poll() is None

    def wait_ready(self, timeout_s: float = 90.0) -> None:
        """Wait until the supervisor has activated every node.

        Raises:
            StackError: a node could not start, or it took too long.
        """
        deadline = time.monotonic() + timeout_s
        while not self._ready.wait(0.05):
            if self._ended.is_set():
                raise StackError(self._failure, self._failure_code)
            if time.monotonic() > deadline:
                raise StackError(
                    f"the stack was not ready within {timeout_s:g} s: {self._status or 'its supervisor says nothing'}"
                )

    def wait(self) -> str:
        """Wait until the stack ends by itself and return why; Ctrl-C interrupts."""
        while not self._ended.wait(0.2):
            pass
        return self._failure

    def stop(self) -> float:
        """End every process: the supervisor first, which deactivates in reverse order. Returns the seconds it took."""
        began = time.monotonic()
        if self._stopping.is_set():
            return 0.0
        self._stopping.set()
        with _uninterrupted():
            self._end_processes(began)
        return time.monotonic() - began

    def _end_processes(self, began: float) -> None:
        self._signal(signal.SIGINT, only="supervisor")
        self._await(began + STOP_ORDERLY_S, only="supervisor")
        self._signal(signal.SIGINT)
        self._await(began + STOP_TERM_S)
        self._signal(signal.SIGTERM)
        self._await(began + STOP_KILL_S)
        # Whole groups, whether or not their leader lives: a node may have started helpers.
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in self._processes.values():
            process.wait()
        for reader in self._readers:
            reader.join(timeout=0.2)
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)
        self._shower.join(timeout=STOP_SHOWING_S)
        remove_shared_memory(self._began_s)
        self._listener.close()
        self._ended.set()

    def _start(self, spec: NodeSpec) -> None:
        environment = self._environment
        if spec.name == "supervisor":
            environment = {**environment, **self._listener.environment}
        command = [*(spec.command or (str(_executable(spec.executable)),)), *ros_arguments(spec, self.graph)]
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=environment,
                start_new_session=True,  # Ctrl-C reaches this process alone, which then stops the others in order
            )
        except OSError as error:
            raise StackError(f"{spec.name} could not be started: {error}") from error
        self._processes[spec.name] = process
        self.starts[spec.name] = self.starts.get(spec.name, 0) + 1
        self._last_lines[spec.name] = collections.deque(maxlen=20)
        assert process.stdout is not None
        reader = threading.Thread(target=self._read, args=(spec.name, process.stdout), daemon=True)
        reader.start()
        self._readers.append(reader)

    def _read(self, name: str, stream: IO[str]) -> None:
        for line in stream:
            line = line.rstrip()
            self._last_lines[name].append(line)
            self._say(name, line)

    def _say(self, name: str, line: str) -> None:
        """Pass a line on without waiting: a process whose output nobody takes (a terminal that is held with Ctrl-S, a pager,
        a full disk) would block in its next line, and a controller that blocks hears no stop.
        """
        try:
            self._lines.put_nowait((name, line))
        except queue.Full:
            self._lines_lost += 1

    def _show(self) -> None:
        """In a thread of its own: what cannot be written is lost, and how much is said once it can again."""
        while (said := self._lines.get()) is not None:
            lost, self._lines_lost = self._lines_lost, 0
            with contextlib.suppress(Exception):
                if lost:
                    self._output("up", f"{lost} lines were lost here: nobody took them")
                self._output(*said)

    def _watch(self) -> None:
        """Until the stack ends; without this nothing would be started again, so a failure ends the stack, too."""
        try:
            self._watch_processes()
        except Exception as error:
            what = "" if isinstance(error, PhysaiError) else f"{type(error).__name__}: "
            self._failure = f"the stack cannot be watched any more: {what}{error}"
            self._ended.set()

    def _watch_processes(self) -> None:
        due: dict[str, float] = {}
        while not self._stopping.wait(0.05):
            retry = self._hear_supervisor()
            for spec in self.graph.nodes:
                code = self._processes[spec.name].poll()
                if retry:
                    self._budgets[spec.name].clear()
                    due = dict.fromkeys(due, 0.0)
                if code is None:
                    continue
                now = time.monotonic()
                if spec.name not in due:
                    self._say(spec.name, f"ended {_how(code)}")
                    wait_s = self._budgets[spec.name].free_in_s
                    final = code == EXIT_CONFIGURATION or wait_s > 0
                    if spec.name == "supervisor" or (final and not self._ready.is_set()):
                        self._fail(spec.name, code)
                        return
                    if wait_s > 0:
                        self._say(spec.name, f"started {self.starts[spec.name]} times; {_next(wait_s)}")
                    due[spec.name] = now + max(RESPAWN_DELAY_S, wait_s)
                elif now >= due[spec.name]:
                    with self._lock:
                        if self._stopping.is_set():
                            return
                        del due[spec.name]
                        self._budgets[spec.name].spend()
                        self._start(spec)

    def _hear_supervisor(self) -> bool:
        """Take what the supervisor says; True when a person asked it to try again."""
        lines = self._listener.take()
        for line in lines:
            if line.startswith("STATUS="):
                self._status = line.removeprefix("STATUS=")
        if READY in lines:
            self._ready.set()
        return RETRY in lines

    def _fail(self, name: str, code: int) -> None:
        """The stack ends by itself; what the node said last is the reason."""
        for reader in self._readers:
            if self._processes[name].poll() is not None:
                reader.join(timeout=0.05)
        mark = f"physai {name}: "
        said = [line[len(mark) :] for line in self._last_lines[name] if line.startswith(mark)]
        last = (
            said[-1]
            if said
            else next((line for line in reversed(self._last_lines[name]) if line), "it said nothing")
        )
        self._failure = last if name == "supervisor" and said else f"{name} ended {_how(code)}: {last}"
        self._failure_code = code
        self._ended.set()

    def _signal(self, number: signal.Signals, only: str = "") -> None:
        with self._lock:
            for name, process in self._processes.items():
                if process.poll() is None and only in ("", name):
                    with contextlib.suppress(ProcessLookupError):
                        process.send_signal(number)

    def _await(self, deadline: float, only: str = "") -> None:
        for name, process in self._processes.items():
            if only in ("", name):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """A second Ctrl-C does not break off a stop, which takes 3 s at most."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The bring-up's arguments as options of a command line."""
    for argument in ARGUMENTS:
        parser.add_argument(
            f"--{argument.name.replace('_', '-')}",
            action=_Joined if argument.name == "task" else "store",
            default=argument.default,
            choices=argument.choices or None,
            help=argument.description,
        )


class _Joined(argparse.Action):
    """What is given several times is joined by commas."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option: str | None = None,
    ) -> None:
        given = getattr(namespace, self.dest)
        setattr(namespace, self.dest, values if given is self.default else f"{given},{values}")


def graph_from(options: argparse.Namespace) -> Graph:
    """The graph for options that add_arguments() made; those that are absent have their defaults."""
    return bringup_graph(**{a.name: getattr(options, a.name) for a in ARGUMENTS if hasattr(options, a.name)})


def up(options: argparse.Namespace) -> int:
    """Run the stack in the foreground until Ctrl-C or SIGTERM, 0 then; StackError when it ends by itself."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    # Also where a script started it in the background, which has Ctrl-C ignored: it is what `kill -INT` asks for.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    stack = Stack(graph_from(options), printer(sys.stdout))
    try:
        with stack:
            stack.wait_ready()
            notify(READY)  # to a service manager, if one started this
            reason = stack.wait()
    except KeyboardInterrupt:
        return 0
    raise StackError(reason)


def printer(stream: IO[str]) -> Callable[[str, str], None]:
    """An output for Stack: every line behind its node's name, in a colour of its own on a terminal."""
    colours: dict[str, int] = {}
    lock = threading.Lock()

    def show(name: str, line: str) -> None:
        with lock:
            colour = colours.setdefault(name, _COLOURS[len(colours) % len(_COLOURS)])
            label = f"[{name}]".ljust(14)
            _write(
                stream, f"\033[{colour}m{label}\033[0m {line}\n" if stream.isatty() else f"{label} {line}\n"
            )

    return show


def _write(stream: IO[str], text: str) -> None:
    """Past the stream's buffer, whose lock a write that blocks would keep: Python could not end then."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # a stream in memory
        stream.write(text)
        return
    data = text.encode(getattr(stream, "encoding", None) or "utf-8", errors="backslashreplace")
    while data:
        data = data[os.write(descriptor, data) :]


def stack_environment() -> dict[str, str]:
    """This environment with what every process of a stack needs; what the user has set stays."""
    env = dict(os.environ)
    defaults = {
        "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp",
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        **middleware_environment(str(share_directory() / "config" / "fastdds.xml")),
        "RCUTILS_CONSOLE_OUTPUT_FORMAT": "{severity}: {message}",
        "RCUTILS_COLORIZED_OUTPUT": "0",
        "PYTHONUNBUFFERED": "1",
        # The processes share few cores, and the control loop needs one.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    for name, value in defaults.items():
        env.setdefault(name, value)
    return env


def join_stack() -> None:
    """Make this process a peer of a running stack; call it before rclpy is imported and before there is output."""
    os.environ.update(stack_environment())
    # Where ROS comes from wheels, this starts Python anew once.
    import physai_ros.wheels  # noqa: F401


def remove_shared_memory(since_s: float) -> list[str]:
    """Remove the segments in /dev/shm, made since then by Fast DDS or physai, whose owner is gone.

    A process that was killed cannot remove its own. Fast DDS holds a lock on `<segment>_el` or `_sl` while the owner
    lives; besides, nothing is removed that another process than this one has mapped.
    """
    folder = Path("/dev/shm")
    patterns = ("fastrtps_*", "fastdds_*", "sem.fastrtps_*", "sem.fastdds_*", "physai_*")
    found = {path for pattern in patterns for path in folder.glob(pattern)}
    removed: list[str] = []
    if not found:
        return removed
    used = _files_in_use()
    for path in found:
        base = path.name.removeprefix("sem.").removesuffix("_mutex").removesuffix("_el").removesuffix("_sl")
        with contextlib.suppress(OSError):
            if str(path) in used or path.stat().st_mtime < since_s - 1:
                continue
            if not any(_is_locked(folder / f"{base}{suffix}") for suffix in ("_el", "_sl")):
                path.unlink()
                removed.append(path.name)
    return removed


def _is_locked(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _files_in_use() -> set[str]:
    """Files under /dev/shm that a process other than this one has mapped or open."""
    used: set[str] = set()
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or process.name == str(os.getpid()):
            continue
        with contextlib.suppress(OSError):
            for line in (process / "maps").read_text().splitlines():
                place = line.find("/dev/shm/")
                if place >= 0:
                    used.add(line[place:].removesuffix(" (deleted)"))
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    used.add(os.readlink(descriptor))
    return used


def _executable(name: str) -> Path:
    share = share_directory()
    if (share / "CMakeLists.txt").is_file():
        raise StackError(
            f"physai runs from its sources in {share} and has no executables there; install it: make install"
        )
    path = share.parent.parent / "lib" / "physai" / name
    if not path.is_file():
        raise StackError(f"{path}: no such executable; install physai again: make install")
    return path


def _next(wait_s: float) -> str:
    if wait_s == float("inf"):
        return "not started again"
    return f"started again in {wait_s:.0f} s, or when supervisor/retry is called"


def _how(code: int) -> str:
    if code < 0:
        return f"by {signal.Signals(-code).name}"
    return f"with code {code}"
