"""Eager torch: networks of our own on the CPU, the reference for other runtimes, and networks without a graph."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

import numpy as np

from physai_base.bundle import Bundle
from physai_base.errors import RuntimeUnavailableError
from physai_policy.architectures import from_bundle
from physai_policy.networks import without_tf32
from physai_policy.runtimes.runtime import (
    Availability,
    RuntimeOptions,
    copy_inputs,
    fixed_shapes,
    warm_up,
    zeros,
)


class TorchRuntime:
    """The module rebuilt from the bundle's safetensors; no pickle is read. The number of threads is the process's."""

    name = "torch"

    def __init__(self, bundle: Bundle, options: RuntimeOptions) -> None:
        found = self.availability()
        if not found.good:
            raise RuntimeUnavailableError(f"torch: {found.detail}; {found.remedy}")
        import torch

        torch.set_num_threads(options.threads)
        without_tf32()
        self._torch = torch
        self.module = from_bundle(bundle)
        self._inputs = zeros(bundle.inputs, fixed_shapes(bundle, bundle.inputs, options.sizes))
        self._outputs = [spec.name for spec in bundle.outputs]
        device = getattr(self.module, "device", "cpu")
        self.detail = f"torch {torch.__version__}, eager on {device}, {options.threads} thread{'s' * (options.threads > 1)}"
        warm_up(self, {name: value.copy() for name, value in self._inputs.items()})

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs for inputs of exactly the shapes that it was loaded for."""
        copy_inputs(inputs, self._inputs)
        with self._torch.inference_mode():
            outputs = self.module(*(self._torch.from_numpy(value) for value in self._inputs.values()))
        outputs = [outputs] if isinstance(outputs, self._torch.Tensor) else outputs
        return {name: value.numpy().copy() for name, value in zip(self._outputs, outputs, strict=True)}

    @staticmethod
    def availability() -> Availability:
        """Whether torch is installed; it is not loaded to find out."""
        if importlib.util.find_spec("torch") is None:
            return Availability(False, "not installed", "make train-deps, or pip install torch")
        from importlib.metadata import version

        return Availability(True, f"torch {version('torch')}, eager")
