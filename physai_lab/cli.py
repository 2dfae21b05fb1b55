"""The `physai` command line."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from physai_base.errors import PhysaiError
from physai_lab.extras import require_folder
from physai_lab.parser import command_line
from physai_ros.environment import refuse_wrong, said_by_ros

WITH_ROS = ("up", "do", "demo", "demo-all")


class _Signalled(KeyboardInterrupt):
    """SIGTERM or SIGHUP: what is left undone and taken down is the same as by Ctrl-C."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code is 0 only when it did what was asked."""
    if sys.stdout is None:  # closed by whoever started this: nobody reads
        sys.stdout = io.StringIO()
    # A file's name or a node's word may hold what this terminal cannot show; that is no reason to end.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # One thread for each process: the parts share few cores, and the control loop needs its own.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    options = command_line().parse_args(arguments)
    if options.command in WITH_ROS or getattr(options, "graph", False):
        refuse_wrong(f"physai {options.command}")
    try:
        with _signals():
            code = _run(options)
            sys.stdout.flush()
            return code
    except PhysaiError as error:
        reason, code = str(error), int(getattr(error, "exit_code", 1))
    except _Signalled as signalled:
        reason, code = "interrupted", 128 + int(signalled.args[0])
    except KeyboardInterrupt:
        reason, code = "interrupted", 130
    except BrokenPipeError:  # `| head`: who reads has enough
        reason, code = "", 128 + signal.SIGPIPE
        _discard_output()
    except OSError as error:
        reason, code = f"{error.filename or 'output'}: {error.strerror or error}", 1
        _discard_output()
    except Exception as error:
        reason, code = said_by_ros(error), 1
        if not reason:
            raise
    if reason:
        print(f"physai {options.command}: {reason}", file=sys.stderr)
    return code


def _run(options: argparse.Namespace) -> int:
    try:
        os.getcwd()
    except FileNotFoundError:
        raise PhysaiError("the current folder was removed; change to another one") from None
    for name, value in vars(options).items():
        if isinstance(value, str):
            _check_text(name, value)
    if isinstance(runs := getattr(options, "runs", None), Path):
        require_folder(runs, "--runs")  # the report comes last, after hours in some commands
    return int(options.run(options))


@contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM and SIGHUP (a terminal that is closed) end a command as Ctrl-C does; one that is ignored (nohup) stays so."""

    def end(number: int, _: FrameType | None) -> None:
        raise _Signalled(number)

    main_thread = threading.current_thread() is threading.main_thread()
    ends = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if main_thread and signal.getsignal(number) is signal.SIG_DFL
    ]
    for number in ends:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ends:
            signal.signal(number, signal.SIG_DFL)


def _discard_output() -> None:
    """What is still buffered cannot be written, and Python would say so again at its end."""
    with open(os.devnull, "w") as nowhere:
        try:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        except (OSError, ValueError):  # no file of its own
            sys.stdout = io.StringIO()


def _check_text(name: str, value: str) -> None:
    """Refuse what is no text before it becomes a message, a parameter or a name of ROS.

    Raises:
        PhysaiError: the shell handed over bytes that are not UTF-8.
    """
    try:
        value.encode()
    except UnicodeEncodeError as error:
        shown = value.encode(errors="surrogateescape").decode(errors="replace")
        raise PhysaiError(
            f"{name.replace('_', '-')} is not UTF-8 at character {error.start + 1}: {shown[:80]!r}"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
