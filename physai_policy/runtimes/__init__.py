"""The runtimes that can compute a policy's graph, by name."""

from __future__ import annotations

from physai_base.bundle import Bundle
from physai_base.errors import BundleError
from physai_policy.runtimes.onnx import OnnxRuntime
from physai_policy.runtimes.runtime import PRECISIONS, Availability, Runtime, RuntimeOptions
from physai_policy.runtimes.tensorrt import TensorRTRuntime
from physai_policy.runtimes.torch import TorchRuntime

# A module here imports its library where it uses it, so that all are known where none but the default is installed.
RUNTIMES = {runtime.name: runtime for runtime in (OnnxRuntime, TensorRTRuntime, TorchRuntime)}


def load_runtime(name: str, bundle: Bundle, options: RuntimeOptions | None = None) -> Runtime:
    """The graph of `bundle` in the runtime of that name, warmed up.

    Raises:
        BundleError: there is no such runtime, or the bundle does not suit it.
        RuntimeUnavailableError: it does not work on this machine.
    """
    if name not in RUNTIMES:
        raise BundleError(f"runtime {name!r} is not known; there are: {', '.join(RUNTIMES)}")
    if not bundle.has_graph and name != TorchRuntime.name:
        raise BundleError(
            f"{bundle.path}: has no graph for the runtime {name}, only weights, which torch computes: set "
            f"runtime:={TorchRuntime.name} (--runtime {TorchRuntime.name} of physai up and physai serve)"
        )
    return RUNTIMES[name](bundle, options or RuntimeOptions())


__all__ = ["PRECISIONS", "RUNTIMES", "Availability", "Runtime", "RuntimeOptions", "load_runtime"]
