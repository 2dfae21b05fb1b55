"""The exceptions that a user's mistake raises; each message says what was given, what is allowed, what to do."""

from __future__ import annotations

import reprlib
from typing import Any


class PhysaiError(Exception):
    """Base of every error that physai raises on purpose; the command line prints it without a traceback."""


class EmbodimentError(PhysaiError):
    """An embodiment file that cannot be read or contradicts itself or its robot model."""


class TaskError(PhysaiError):
    """A task file that cannot be read or contradicts itself."""


class BundleError(PhysaiError):
    """A model bundle that does not match its manifest, its robot or what its reader expects."""


class PolicyError(PhysaiError):
    """A policy that has no usable answer: out of time, out of reach, or not what was agreed on."""


class RuntimeUnavailableError(PhysaiError):
    """A runtime that cannot work on this machine; the message says what it lacks."""


class MissingObjectError(Exception):
    """The scene lacks an object that the task needs."""


class KinematicsError(PhysaiError):
    """A pose that the arm cannot reach within its limits."""


def shown(value: Any) -> str:
    """A value from a file as an error message shows it: its repr, shortened where it is long or deep."""
    printer = reprlib.Repr()
    printer.maxstring = printer.maxother = printer.maxlong = 200
    printer.maxlist = printer.maxdict = 16
    printer.maxlevel = 3
    return printer.repr(value)
