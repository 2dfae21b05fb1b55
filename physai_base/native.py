"""Finds and loads physai's C libraries, and holds what they make so that Python cannot use it after its end."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from physai_base.errors import PhysaiError


class LibraryError(PhysaiError):
    """A C library that is not built or cannot be loaded."""


def find_library(package: str, name: str) -> Path:
    """`lib<name>.so` beside the package's modules, in PHYSAI_LIB_DIR, or in a build of the source tree."""
    file = f"lib{name}.so"
    here = Path(__file__).absolute().parent.parent
    folders = [Path(p) for p in (os.environ.get("PHYSAI_LIB_DIR"),) if p]
    folders += [here / package, here / "build" / package]
    for folder in folders:
        if (folder / file).is_file():
            return folder / file
    raise LibraryError(
        f"{file} was not found in {', '.join(map(str, folders))}; build it with `make install`"
    )


def load_library(package: str, name: str) -> ctypes.CDLL:
    """Load it, after the libmujoco that Python uses, so that both are the same one."""
    import mujoco

    path = find_library(package, name)
    runtime = next(Path(mujoco.__file__).parent.glob("libmujoco.so*"), None)
    try:
        if runtime is not None:
            ctypes.CDLL(str(runtime), mode=ctypes.RTLD_GLOBAL)
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise LibraryError(f"{path} cannot be loaded: {error}; build it again with `make install`") from error


class ClosedError(PhysaiError):
    """An object of a C library was used after it was closed, or while it is being closed."""


class NativeHandle:
    """One object of a C library, which Python may outlive: any thread may use it until it is closed, none after.

        handle = NativeHandle("the control core", pointer, library.physai_control_destroy)
        handle.call(library.physai_control_request, ACTIVATE)    # ClosedError once close() has begun
        handle.close()                                           # waits for calls that run

    A function of ctypes also takes it as an argument as it is; such a call is not waited for.
    """

    def __init__(
        self,
        what: str,
        pointer: ctypes.c_void_p,
        destroy: Callable[[ctypes.c_void_p], object],
        needs: tuple[NativeHandle, ...] = (),
    ) -> None:
        """`what` names it in errors; `needs` are others that its calls use, which are held open meanwhile."""
        self._what, self._pointer, self._destroy, self._needs = what, pointer, destroy, needs
        self._changed = threading.Condition()
        self._users: list[int] = []  # threads
        self._closing = False

    @property
    def closed(self) -> bool:
        """Whether close() has begun."""
        return self._closing

    @property
    def value(self) -> int:
        """The C object's address.

        Raises:
            ClosedError: there is none any more.
        """
        if self._closing:
            raise ClosedError(f"{self._what} is closed; make another one")
        return self._pointer.value or 0

    @property
    def _as_parameter_(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(self.value)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What `function` returns for the object and the arguments.

        Raises:
            ClosedError: it is closed, or something that it needs is.
        """
        with self:
            return function(self._pointer, *arguments)

    def __enter__(self) -> ctypes.c_void_p:
        """Hold it open; the pointer is valid in the block."""
        held: list[NativeHandle] = []
        try:
            for other in self._needs:
                other.__enter__()
                held.append(other)
            with self._changed:
                if self._closing:
                    raise ClosedError(f"{self._what} is closed; make another one")
                self._users.append(threading.get_ident())
        except BaseException:
            for other in held:
                other.__exit__()
            raise
        return self._pointer

    def __exit__(self, *_: object) -> None:
        """Let go of it."""
        with self._changed:
            self._users.remove(threading.get_ident())
            self._changed.notify_all()
        for other in self._needs:
            other.__exit__()

    def close(self) -> None:
        """Destroy it once no thread is in a call any more; again, or from two threads, this does nothing.

        Raises:
            ClosedError: it is this very thread that is in a call.
        """
        with self._changed:
            if threading.get_ident() in self._users:
                raise ClosedError(f"{self._what} cannot be closed from within one of its own calls")
            if self._closing:
                self._changed.wait_for(lambda: not self._pointer)  # whoever began it ends it
                return
            self._closing = True
            self._changed.wait_for(lambda: not self._users)
        self._destroy(self._pointer)
        with self._changed:
            self._pointer = ctypes.c_void_p()
            self._changed.notify_all()
