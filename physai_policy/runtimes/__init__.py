"""The runtimes that can compute a policy's graph, by name."""

from __future__ import annotations

from dataclasses import replace

from physai_base import golden
from physai_base.bundle import WEIGHTS, Bundle
from physai_base.errors import BundleError
from physai_policy.runtimes.onnx import OnnxRuntime
from physai_policy.runtimes.runtime import PRECISIONS, Availability, Runtime, RuntimeOptions
from physai_policy.runtimes.tensorrt import TensorRTRuntime
from physai_policy.runtimes.torch import TorchRuntime

# A module here imports its library where it uses it, so that all are known where none but the default is installed.
RUNTIMES = {runtime.name: runtime for runtime in (OnnxRuntime, TensorRTRuntime, TorchRuntime)}


def load_runtime(name: str, bundle: Bundle, options: RuntimeOptions | None = None) -> Runtime:
    """The graph of `bundle` in the runtime of that name, warmed up, and its golden cases answered.

    Raises:
        BundleError: there is no such runtime, or the bundle does not suit it.
        GoldenError: it computes something else than the bundle, or the bundle has no golden cases to tell.
        RuntimeUnavailableError: it does not work on this machine.
    """
    if name not in RUNTIMES:
        raise BundleError(f"runtime {name!r} is not known; there are: {', '.join(RUNTIMES)}")
    if not bundle.has_graph and name != TorchRuntime.name:
        raise BundleError(
            f"{bundle.path}: has no graph for the runtime {name}, only weights, which torch computes: set "
            f"runtime:={TorchRuntime.name} (--runtime {TorchRuntime.name} of physai up and physai serve)"
        )
    kind, options = RUNTIMES[name], options or RuntimeOptions()
    can = precisions_of(name)
    if options.precision not in can:
        raise BundleError(
            f"precision {options.precision}: the runtime {name} computes in {' or '.join(can)}; set one of these, or another runtime"
        )
    if not bundle.golden:  # before an engine is loaded for it
        golden.check(str(bundle.path), (), (bundle.inputs, bundle.outputs))
    runtime = kind(bundle, options)
    precision = options.precision if bundle.has_graph else golden.weights_precision(bundle.file(WEIGHTS))
    bundle.examine(runtime.run, f"the runtime {name} ({runtime.detail})", precision, options.sizes)
    return runtime


def precisions_of(name: str) -> tuple[str, ...]:
    """What a runtime may be asked to compute in."""
    return tuple(getattr(RUNTIMES[name], "precisions", ("fp32",)))


def options_for(name: str, options: RuntimeOptions) -> RuntimeOptions:
    """The same options for a runtime that is one of several: in fp32 where it has no other precision."""
    return options if options.precision in precisions_of(name) else replace(options, precision="fp32")


__all__ = [
    "PRECISIONS",
    "RUNTIMES",
    "Availability",
    "Runtime",
    "RuntimeOptions",
    "load_runtime",
    "options_for",
    "precisions_of",
]
