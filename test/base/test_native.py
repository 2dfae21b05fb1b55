"""An object of C that is closed says so; it is not freed under a call."""

from __future__ import annotations

import ctypes as C
import subprocess
import sys
import threading

import paths
import pytest

from physai_base.native import ClosedError, NativeHandle

CASES = paths.CASES / "use_after_close"


def test_every_closed_object_says_so() -> None:
    """In a process of its own: what is wrong here ends in a segmentation fault."""
    done = subprocess.run(
        [sys.executable, str(CASES / "every_object.py")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "nothing"), done.stdout + done.stderr


def handle(destroyed: list[int], needs: tuple[NativeHandle, ...] = ()) -> NativeHandle:
    return NativeHandle(
        "the thing", C.c_void_p(0x10), lambda pointer: destroyed.append(pointer.value or 0), needs
    )


def test_close_waits_for_a_call_and_refuses_the_next() -> None:
    destroyed: list[int] = []
    thing, inside, go_on = handle(destroyed), threading.Event(), threading.Event()

    def call(_: C.c_void_p) -> None:
        inside.set()
        go_on.wait()
        assert not destroyed

    user = threading.Thread(target=thing.call, args=(call,))
    user.start()
    inside.wait()
    closers = [threading.Thread(target=thing.close) for _ in range(2)]
    for closer in closers:
        closer.start()
    while not thing.closed:
        pass
    with pytest.raises(ClosedError, match="the thing is closed"):
        thing.call(lambda pointer: None)
    assert not destroyed
    go_on.set()
    for thread in (user, *closers):
        thread.join()
    assert destroyed == [0x10]


def test_what_a_call_needs_stays_open_for_it_and_is_asked_for() -> None:
    destroyed: list[int] = []
    core = handle(destroyed)
    plant = handle(destroyed, (core,))
    assert plant.call(lambda pointer: core._users != []) is True
    assert core._users == []
    core.close()
    with pytest.raises(ClosedError):
        plant.call(lambda pointer: None)
    with pytest.raises(ClosedError):
        C.c_void_p.from_param(core)
    plant.close()
    assert len(destroyed) == 2


def test_closing_from_within_its_own_call_is_refused_and_does_not_hang() -> None:
    thing = handle([])
    with pytest.raises(ClosedError, match="own calls"):
        thing.call(lambda pointer: thing.close())
    thing.close()
