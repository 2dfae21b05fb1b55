"""Train the learned residual: a small network for the torque that a calibration leaves unexplained.

Two layers of tanh from (q, dq, ddq) to n torques, fitted by L-BFGS on the whole of a few minutes of motion with its
gradient written out: at this size neither batches nor a framework pay. In the controller the network sees the
measured position but the reference's velocity and acceleration; where an arm follows well they are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from physai_base.bundle import Bundle, write_bundle
from physai_base.embodiment import Embodiment
from physai_base.tensor import TensorSpec
from physai_control.residual import HIDDEN
from physai_lab.calibration.identification import Leftover
from physai_lab.calibration.motion import CalibrationError
from physai_lab.progress import Progress

SHARE = 0.1  # of the torque limit: what the controller lets through
HELD_OUT = 5  # every so many blocks in time are not trained on
RANGE_QUANTILE = 0.005  # of each input that may lie beyond its range
DECAYS = (1e-3, 4e-3)  # of the weights; the one that does best on what was held out is taken
STEPS = 200


@dataclass(frozen=True)
class Trained:
    """A network and how well it does; the root mean squares are of what was held out."""

    weights: dict[str, np.ndarray]  # as in physai_control/residual.py
    rms_before: np.ndarray  # (n,) Nm
    rms_after: np.ndarray  # (n,) Nm


def train_residual(
    embodiment: Embodiment, rows: Leftover, seed: int = 0, progress: Progress | None = None
) -> Trained:
    """The network for what is left.

    Raises:
        CalibrationError: too little data, or the network explains nothing of what it was not trained on.
    """
    if len(rows.q) < 1000:
        raise CalibrationError(
            f"a residual needs at least 16 s of motion, got {len(rows.q)} rows; record longer"
        )
    bound = SHARE * embodiment.limits("torque")
    x = np.hstack([rows.q, rows.dq, rows.ddq])
    low, high = np.quantile(x, RANGE_QUANTILE, axis=0), np.quantile(x, 1 - RANGE_QUANTILE, axis=0)
    mean, scale = (low + high) / 2, np.maximum((high - low) / 2, 1e-3)
    inputs = np.clip((x - mean) / scale, -1.0, 1.0)
    target = np.clip(rows.torque, -bound, bound)
    spread = np.array([target[rows.use[:, i], i].std() + 1e-6 for i in range(target.shape[1])])
    held = rows.block // 4 % HELD_OUT == HELD_OUT - 1
    best: tuple[float, list[np.ndarray]] | None = None
    for k, decay in enumerate(DECAYS):
        parameters = _fit(inputs[~held], (target / spread)[~held], rows.use[~held], decay, seed)
        miss = float(
            np.mean(
                ((_network(parameters, inputs[held])[-1] - (target / spread)[held]) * rows.use[held]) ** 2
            )
        )
        if best is None or miss < best[0]:
            best = (miss, parameters)
        if progress:
            progress(k + 1, len(DECAYS), f"held out {best[0]:.3g}")
    assert best is not None
    w1, b1, w2, b2, w3, b3 = (p.astype(np.float32) for p in best[1])
    predicted = _network(best[1], inputs[held])[-1] * spread

    def rms(values: np.ndarray) -> np.ndarray:
        use = rows.use[held]
        return np.array([np.sqrt(np.mean(values[use[:, i], i] ** 2)) for i in range(values.shape[1])])

    before, after = rms(target[held]), rms(target[held] - predicted)
    if not np.sum((after / bound) ** 2) < np.sum((before / bound) ** 2):
        raise CalibrationError(
            "the residual explains nothing of the motion that it was not trained on: the calibration alone is as good"
        )
    weights = {
        "input_mean": mean, "input_scale": scale, "w1": w1, "b1": b1, "w2": w2, "b2": b2, "w3": w3, "b3": b3,
        "output_scale": spread,
    }  # fmt: skip
    return Trained({name: value.astype(np.float32) for name, value in weights.items()}, before, after)


def _shapes(inputs: int, outputs: int) -> list[tuple[int, ...]]:
    return [(inputs, HIDDEN), (HIDDEN,), (HIDDEN, HIDDEN), (HIDDEN,), (HIDDEN, outputs), (outputs,)]


def _unpack(flat: np.ndarray, shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    return [part.reshape(shape) for part, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True)]


def _network(parameters: list[np.ndarray], x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both hidden layers and the output."""
    w1, b1, w2, b2, w3, b3 = parameters
    first = np.tanh(x @ w1 + b1)
    second = np.tanh(first @ w2 + b2)
    return first, second, second @ w3 + b3


def _fit(x: np.ndarray, target: np.ndarray, use: np.ndarray, decay: float, seed: int) -> list[np.ndarray]:
    """Least squares over the rows that count, with weight decay."""
    rng = np.random.default_rng(seed)
    shapes = _shapes(x.shape[1], target.shape[1])
    start = [
        rng.normal(size=shape) / np.sqrt(shape[0]) if len(shape) == 2 else np.zeros(shape) for shape in shapes
    ]
    start[4] *= 0.1

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        parameters = _unpack(flat, shapes)
        first, second, output = _network(parameters, x)
        error = (output - target) * use
        value = float(np.mean(error**2)) + decay * float(flat @ flat) / 2
        d_output = 2 * error / error.size
        d_second = (d_output @ parameters[4].T) * (1 - second**2)
        d_first = (d_second @ parameters[2].T) * (1 - first**2)
        gradient = [
            x.T @ d_first, d_first.sum(axis=0), first.T @ d_second, d_second.sum(axis=0), second.T @ d_output,
            d_output.sum(axis=0),
        ]  # fmt: skip
        return value, np.concatenate([g.ravel() for g in gradient]) + decay * flat

    flat = np.concatenate([p.ravel() for p in start])
    found = minimize(loss, flat, jac=True, method="L-BFGS-B", options={"maxiter": STEPS, "maxcor": 20})
    return _unpack(found.x, shapes)


def write_residual(directory: Path, embodiment: Embodiment, trained: Trained, training_data: str) -> Bundle:
    """The bundle that `calibration.residual` names."""
    n = len(embodiment.joints)
    return write_bundle(
        directory,
        kind="residual",
        name=f"{embodiment.name} residual",
        robot=embodiment.name,
        model=None,
        inputs=[
            TensorSpec("q", (n,), "rad"),
            TensorSpec("reference_dq", (n,), "rad/s"),
            TensorSpec("reference_ddq", (n,), "rad/s^2"),
        ],
        outputs=[TensorSpec("tau", (n,), "Nm")],
        config={"hidden": HIDDEN, "bound": SHARE},
        training_data=training_data,
        metrics={
            "held_out_rms_before_Nm": [round(float(v), 5) for v in trained.rms_before],
            "held_out_rms_after_Nm": [round(float(v), 5) for v in trained.rms_after],
        },
        licence="Apache-2.0",
        weights=trained.weights,
    )
