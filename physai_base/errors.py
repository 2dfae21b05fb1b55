"""The exceptions that a user's mistake raises; each message says what was given, what is allowed, what to do."""


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


class KinematicsError(PhysaiError):
    """A pose that the arm cannot reach within its limits."""
