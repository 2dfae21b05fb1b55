"""The learned residual's network from its bundle, as the control core takes it; `physai_control/core/src/model/residual.h`.

The bundle's weights.safetensors holds float32 arrays, n joints, 3n inputs, h <= 32 units in each hidden layer:

    input_mean, input_scale (3n,)   of q, reference dq, reference ddq in rad, rad/s, rad/s^2
    w1 (3n, h)  b1 (h,)             tanh of x @ w1 + b1
    w2 (h, h)   b2 (h,)             tanh
    w3 (h, n)   b3 (n,)             times output_scale (n,) Nm: the residual torque
"""

from __future__ import annotations

import ctypes as C
from pathlib import Path

import numpy as np

from physai_base.bundle import Bundle
from physai_base.embodiment import Embodiment
from physai_base.errors import BundleError
from physai_base.hardware_structures import MAX_JOINTS

HIDDEN = 32
INPUTS = 3 * MAX_JOINTS


class Network(C.Structure):
    """struct physai_residual_network."""

    _fields_ = [
        ("n_joints", C.c_uint32), ("n_hidden", C.c_uint32), ("input_mean", C.c_float * INPUTS), ("input_scale", C.c_float * INPUTS),
        ("w1", (C.c_float * HIDDEN) * INPUTS), ("b1", C.c_float * HIDDEN), ("w2", (C.c_float * HIDDEN) * HIDDEN),
        ("b2", C.c_float * HIDDEN), ("w3", (C.c_float * MAX_JOINTS) * HIDDEN), ("b3", C.c_float * MAX_JOINTS),
        ("output_scale", C.c_float * MAX_JOINTS),
    ]  # fmt: skip


def load_network(path: Path, embodiment: Embodiment) -> Network:
    """The network of the residual bundle at `path`, for the core's create.

    Raises:
        BundleError: it is no residual, of another robot or of the wrong shape.
    """
    bundle = Bundle.open(path, kind="residual", robot=embodiment)
    return pack(bundle.weights(), len(embodiment.joints), str(bundle.path))


def pack(weights: dict[str, np.ndarray], n: int, where: str = "residual") -> Network:
    """The C structure of `weights`, for n joints.

    Raises:
        BundleError: an array is missing or its shape is wrong.
    """
    h = weights["b1"].shape[0] if "b1" in weights and weights["b1"].ndim == 1 else 0
    if not 1 <= h <= HIDDEN:
        raise BundleError(f"{where}: a hidden layer has {h} units, 1 to {HIDDEN} are allowed; train it again")
    shapes = {
        "input_mean": (3 * n,), "input_scale": (3 * n,), "w1": (3 * n, h), "b1": (h,), "w2": (h, h), "b2": (h,),
        "w3": (h, n), "b3": (n,), "output_scale": (n,),
    }  # fmt: skip
    network = Network(n_joints=n, n_hidden=h)
    for name, shape in shapes.items():
        found = weights.get(name)
        if found is None or found.shape != shape:
            got = "nothing" if found is None else f"shape {found.shape}"
            raise BundleError(
                f"{where}: {name} must have shape {shape} for {n} joints, got {got}; train it again"
            )
        room = np.ctypeslib.as_array(getattr(network, name))
        room[tuple(slice(size) for size in shape)] = found
    return network
