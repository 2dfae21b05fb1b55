"""Trains the ensemble of dynamics models and calibrates its threshold."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.expert import DT_S, HORIZON
from physai_base.kinematics import ArmKinematics
from physai_base.task import Task
from physai_lab.data.dataset import DatasetError, Episode, made_with, places_in, read_episodes
from physai_lab.evaluation.foresight import HARM_M, STILL_M, Foresight, near
from physai_lab.progress import Progress
from physai_lab.training.checkpoint import dataset_id, save_checkpoint
from physai_lab.training.loop import Recipe, begin, optimize
from physai_world_model.model import disagreement, disturbance, ood_score, touchable

ROBOT_OUTPUTS = 7  # change of tool position and velocity, change of width
HELD_OUT_EVERY = 10  # episodes that training does not see
OBJECT_OUTPUTS = 4  # change of position, logit of standing


@dataclass(frozen=True)
class WorldModelTraining:
    """Settings of the training: bootstrapped ensemble as in PETS (Chua et al. 2018)."""

    members: int = 5
    width: int = 128
    steps: int = 4_000
    batch: int = 128
    unroll: int = 4
    learning_rate: float = 1e-3
    quantile: float = 0.998  # of what is imagined of held-out chunks that did no harm …
    margin: float = 1.3  # … times this is a threshold
    seed: int = 0
    reach_m: float = 0.0  # of the robot's hand, which training puts here


def build_dynamics(settings: WorldModelTraining, place_count: int) -> Any:
    """The ensemble: one network for the tool, one shared by all objects, each with a leading member axis."""
    import torch
    from torch import nn

    class Members(nn.Module):
        """`members` independent MLPs evaluated as batched matrix products."""

        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            sizes = [inputs, settings.width, settings.width, outputs]
            self.weights = nn.ParameterList(
                nn.Parameter(torch.randn(settings.members, a, b) / a**0.5)
                for a, b in itertools.pairwise(sizes)
            )
            self.biases = nn.ParameterList(
                nn.Parameter(torch.zeros(settings.members, 1, b)) for b in sizes[1:]
            )
            self.register_buffer("mean", torch.zeros(inputs))
            self.register_buffer("std", torch.ones(inputs))
            self.register_buffer("out_std", torch.ones(outputs))

        def normalized(self, x: Any) -> Any:
            """Inputs in standard deviations of the training data."""
            return (x - self.mean) / self.std

        def forward(self, x: Any) -> Any:
            """(E, B, inputs) to (E, B, outputs)."""
            x = torch.clamp(self.normalized(x), -6, 6)
            for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
                x = torch.matmul(x, weight) + bias
                if i + 1 < len(self.weights):
                    x = torch.nn.functional.silu(x)
            return x * self.out_std

    class Dynamics(nn.Module):
        """One step of `DT_S` seconds for robot and objects."""

        def __init__(self) -> None:
            super().__init__()
            self.robot = Members(3 + 1 + 3 + 1 + 1 + 3 * place_count, ROBOT_OUTPUTS)
            self.thing = Members(3 + 3 + 3 + 1 + 3 + 1 + 1 + 3 * place_count, OBJECT_OUTPUTS)

        def robot_input(self, tcp: Any, velocity: Any, width: Any, places: Any, setpoint: Any) -> Any:
            """(..., inputs); places is (..., places * 3) in the base frame."""
            relative = places - torch.cat([tcp] * place_count, dim=-1)
            return torch.cat(
                [velocity, width, setpoint[..., :3] - tcp, setpoint[..., 3:] - width, tcp[..., 2:], relative],
                dim=-1,
            )

        def object_input(
            self, tcp: Any, velocity: Any, width: Any, places: Any, setpoint: Any, thing: Any
        ) -> Any:
            """The same for one object (..., 3)."""
            offset = thing - tcp
            relative = places - torch.cat([thing] * place_count, dim=-1)
            return torch.cat(
                [offset, torch.tanh(offset / 0.03), velocity, width, setpoint[..., :3] - tcp, setpoint[..., 3:] - width, thing[..., 2:], relative],
                dim=-1,
            )  # fmt: skip

        def forward(self, state: Any, places: Any, setpoint: Any) -> Any:
            """The state one step later, the logits (E, B, k) of standing and the tool network's inputs.

            A state is tool position (E, B, 3), its velocity (E, B, 3), gripper width (E, B, 1) and objects (E, B, k, 3).
            """
            tcp, velocity, width, objects = state
            robot_input = self.robot_input(tcp, velocity, width, places, setpoint)
            change = self.robot(robot_input)
            # One evaluation for all objects, side by side along the batch.
            count = objects.shape[2]
            inputs = [
                self.object_input(tcp, velocity, width, places, setpoint, objects[:, :, k])
                for k in range(count)
            ]
            out = self.thing(torch.cat(inputs, dim=1)).unflatten(1, (count, tcp.shape[1])).transpose(1, 2)
            # Far from the hand an object stays where it is: that need not be learned, and has no error then.
            away = ((objects - tcp.unsqueeze(2))[..., :2] ** 2).sum(-1, keepdim=True).clamp_min(1e-9) ** 0.5
            near = torch.sigmoid((settings.reach_m - away) / 0.005)
            moved = (
                tcp + change[..., :3],
                velocity + change[..., 3:6],
                width + change[..., 6:],
                objects + near * out[..., :3],
            )
            return moved, out[..., 3], robot_input

    return Dynamics()


def build_rollout(dynamics: Any, horizon: int) -> Any:
    """The ensemble's ONNX form: a whole imagined trajectory."""
    import torch
    from torch import nn

    class Rollout(nn.Module):
        """Applies the dynamics step by step, each member on its own imagination."""

        def __init__(self) -> None:
            super().__init__()
            self.dynamics = dynamics
            self.members = dynamics.robot.weights[0].shape[0]

        def forward(
            self, tcp: Any, velocity: Any, width: Any, object_positions: Any, places: Any, setpoints: Any
        ) -> Any:
            """Paths (E, B, H, 3), (E, B, H, k, 3), (E, B, H, k) and the largest novelty of an input (B,)."""

            def spread(x: Any) -> Any:
                return x.unsqueeze(0).expand(self.members, *x.shape)

            state = (spread(tcp), spread(velocity), spread(width), spread(object_positions))
            flat_places = spread(places.flatten(1))
            tcps, paths, standing = [], [], []
            novelty = torch.zeros_like(setpoints[:, 0, 0])
            for step in range(horizon):
                state, logits, robot_input = self.dynamics(state, flat_places, spread(setpoints[:, step]))
                excess = torch.relu(self.dynamics.robot.normalized(robot_input).abs() - 5.0)
                novelty = torch.maximum(novelty, excess.amax(dim=-1).amax(dim=0))
                tcps.append(state[0])
                paths.append(state[3])
                standing.append(torch.sigmoid(logits))
            return torch.stack(tcps, 2), torch.stack(paths, 2), torch.stack(standing, 2), novelty

    return Rollout()


def _arrays(episode: Episode, kinematics: ArmKinematics) -> dict[str, np.ndarray]:
    columns = episode.columns
    state, n = columns["observation.state"].astype(float), columns["observation.velocity"].shape[1]
    velocity = np.array(
        [
            kinematics.jacobian(q)[:3] @ dq
            for q, dq in zip(state[:, :n], columns["observation.velocity"].astype(float), strict=True)
        ]
    )
    return {
        "tcp": columns["observation.tcp"][:, :3],
        "velocity": velocity,
        "width": state[:, n : n + 1],
        "objects": columns["observation.objects"].reshape(len(episode), -1, 3),
        "upright": columns["observation.upright"],
        "places": places_in(columns),
        "command": columns["observation.command"],
    }


def load_recordings(data: Path, embodiment: Embodiment) -> list[tuple[Episode, dict[str, np.ndarray]]]:
    """Every episode with the arrays that the dynamics see."""
    kinematics = ArmKinematics(embodiment)
    return [(episode, _arrays(episode, kinematics)) for episode in read_episodes(data)]


def windows(
    recordings: list[tuple[Episode, dict[str, np.ndarray]]], length: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Windows of `length` + 1 frames (N, length + 1, …) and the index of the episode of each (N,)."""
    cut: dict[str, list[np.ndarray]] = {}
    owners: list[int] = []
    for index, (episode, arrays) in enumerate(recordings):
        stamps = episode.columns["observation.stamp_ns"]
        for start in range(len(episode) - length):
            if stamps[start + length] - stamps[start] > 1.02e9 * DT_S * length:
                continue  # a dropped frame: the steps are not DT_S apart
            for name, array in arrays.items():
                cut.setdefault(name, []).append(array[start : start + length + 1])
            owners.append(index)
    if not owners:
        raise DatasetError(f"no episode is longer than {length} frames; record more with `physai demos`")
    return {name: np.array(values, np.float32) for name, values in cut.items()}, np.array(owners)


def _is_held_out(owners: np.ndarray) -> np.ndarray:
    return owners % HELD_OUT_EVERY == 0


def train_world_model(
    data: Path,
    out: Path,
    embodiment: Embodiment,
    task: Task,
    settings: WorldModelTraining | None = None,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Train on all recordings at `data`, calibrate on held-out ones and write a checkpoint to `out`."""
    import torch

    settings = replace(settings or WorldModelTraining(), reach_m=embodiment.end_effectors[0].hand.reach)
    trained_on = made_with(data, task, embodiment)  # before the time is spent
    rng = begin(settings.seed)
    recordings = load_recordings(data, embodiment)
    arrays, owners = windows(recordings, settings.unroll)
    held_out = _is_held_out(owners)
    tensors = {name: torch.from_numpy(value) for name, value in arrays.items()}
    dynamics = build_dynamics(settings, len(task.places))
    _normalize(dynamics, {name: value[torch.from_numpy(~held_out)] for name, value in tensors.items()})
    train_rows = np.flatnonzero(~held_out)
    # Every member sees its own bootstrap sample.
    bootstrap = [rng.choice(train_rows, len(train_rows)) for _ in range(settings.members)]
    # Objects that move are rare and matter most.
    motion = np.abs(np.diff(arrays["objects"], axis=1)).max(axis=(1, 2, 3)) > 0.004
    busy = [rows[motion[rows]] for rows in bootstrap]

    def loss_of_a_batch() -> Any:
        """Each member on windows of its own."""
        picks = []
        for rows, moving in zip(bootstrap, busy, strict=True):
            half = settings.batch // 2 if len(moving) else 0
            picks.append(
                np.concatenate(
                    [rng.choice(rows, settings.batch - half), rng.choice(moving, half) if half else rows[:0]]
                )
            )
        index = torch.from_numpy(np.array(picks, dtype=np.int64))  # (E, B)
        return _loss(dynamics, {name: value[index] for name, value in tensors.items()}, settings.unroll)

    recipe = Recipe(settings.steps, settings.learning_rate, weight_decay=1e-5)
    optimize(dynamics, loss_of_a_batch, recipe, progress)
    rollout = build_rollout(dynamics, HORIZON).eval()
    metrics, thresholds = _calibrate(rollout, recordings, settings, task)
    notes = {
        "settings": asdict(settings),
        "thresholds": thresholds,
        "metrics": metrics,
        "data": dataset_id(data),
        "trained_on": trained_on,
    }
    save_checkpoint(out, "world_model", dynamics, notes)
    return metrics


def _normalize(dynamics: Any, tensors: dict[str, Any]) -> None:
    """Take the scales of inputs and outputs from recorded steps (N, length + 1, …)."""
    import torch

    batch = {name: value[None] for name, value in tensors.items()}
    common = (
        batch["tcp"][:, :, 0],
        batch["velocity"][:, :, 0],
        batch["width"][:, :, 0],
        batch["places"][:, :, 0],
    )
    setpoint = batch["command"][:, :, 1]
    robot = dynamics.robot_input(*common, setpoint)
    count = batch["objects"].shape[3]
    things = [dynamics.object_input(*common, setpoint, batch["objects"][:, :, 0, k]) for k in range(count)]
    everything = torch.cat(things, dim=1)
    for stack, inputs in ((dynamics.robot, robot), (dynamics.thing, everything)):
        flat = inputs.reshape(-1, inputs.shape[-1])
        stack.mean.copy_(flat.mean(0))
        stack.std.copy_(flat.std(0).clamp_min(1e-3))
    change = [batch["tcp"], batch["velocity"], batch["width"]]
    scale = torch.cat([(x[0, :, 1] - x[0, :, 0]).std(0) for x in change])
    dynamics.robot.out_std.copy_(scale.clamp_min(1e-4))
    moved = (batch["objects"][0, :, 1] - batch["objects"][0, :, 0]).reshape(-1, 3).std(0).clamp_min(1e-3)
    dynamics.thing.out_std.copy_(torch.cat([moved, torch.ones(1)]))


def _loss(dynamics: Any, batch: dict[str, Any], unroll: int) -> Any:
    """Multi-step prediction error, so that imagined trajectories stay close to recorded ones."""
    from torch.nn.functional import binary_cross_entropy_with_logits, smooth_l1_loss

    names = ("tcp", "velocity", "width", "objects")
    robot_scale = dynamics.robot.out_std
    scales = (robot_scale[:3], robot_scale[3:6], robot_scale[6:], dynamics.thing.out_std[:3])
    weights = (1.0, 1.0, 1.0, batch["objects"].shape[3])  # each object counts like the tool
    state = tuple(batch[name][:, :, 0] for name in names)
    places = batch["places"][:, :, 0]
    loss: Any = 0.0
    for step in range(1, unroll + 1):
        state, logits, _ = dynamics(state, places, batch["command"][:, :, step])
        for name, scale, weight, value in zip(names, scales, weights, state, strict=True):
            loss = loss + weight * smooth_l1_loss(value / scale, batch[name][:, :, step] / scale)
        standing = batch["upright"][:, :, step]
        loss = loss + 0.3 * standing.shape[2] * binary_cross_entropy_with_logits(logits, standing)
    return loss / unroll


def _calibrate(
    rollout: Any,
    recordings: list[tuple[Episode, dict[str, np.ndarray]]],
    settings: WorldModelTraining,
    task: Task,
) -> tuple[dict[str, float], dict[str, float]]:
    """Errors over the whole horizon on held-out episodes, and the thresholds of the judge.

    A threshold lies just above what is imagined of demonstrations, in which no other object came to harm, and not
    below what matters; how much of the harm that was caused it then catches is among the metrics, beside the rule that
    looks at the path alone.
    """
    import torch

    arrays, owners = windows(recordings, HORIZON)
    held_out = _is_held_out(owners)
    play = np.array([recordings[owner][0].kind == "play" for owner in owners[held_out]])
    rows = {name: torch.from_numpy(value[held_out]) for name, value in arrays.items()}
    with torch.no_grad():
        tcp, objects, upright, novelty = rollout(
            rows["tcp"][:, 0], rows["velocity"][:, 0], rows["width"][:, 0], rows["objects"][:, 0],
            rows["places"][:, 0].reshape(len(rows["tcp"]), -1, 3), rows["command"][:, 1:],
        )  # fmt: skip
    tcp_error = (tcp.mean(0) - rows["tcp"][:, 1:]).norm(dim=-1).numpy()
    object_error = (objects.mean(0) - rows["objects"][:, 1:]).norm(dim=-1).numpy()
    # What the cheapest answers would be off by: the tool goes where it is told, an object stays where it is.
    setpoint_error = (rows["command"][:, 1:, :3] - rows["tcp"][:, 1:]).norm(dim=-1).numpy()
    stay_error = (rows["objects"][:, :1] - rows["objects"][:, 1:]).norm(dim=-1).numpy()
    score = ood_score(disagreement(tcp.numpy(), objects.numpy()).max(axis=-1), novelty.numpy())
    start, path = rows["objects"][:, 0].numpy(), rows["objects"][:, 1:].numpy()
    moved, fallen = disturbance(objects.numpy(), upright.numpy(), start)
    really_moved, really_fell = disturbance(path[None], rows["upright"][:, 1:].numpy()[None], start)
    harmed = (really_moved > HARM_M) | (really_fell > 0.5)
    reached = touchable(rows["command"][:, 1:].numpy(), start, settings.reach_m)
    targets = np.concatenate(
        [episode.columns["observation.goal"][:1, 0].astype(int) for episode, _ in recordings]
    )
    bystander = np.ones_like(reached)
    bystander[np.arange(len(bystander)), targets[owners[held_out]]] = False
    harmless = bystander & reached & ~harmed & ~play[:, None]

    def threshold(values: np.ndarray, least: float) -> float:
        return (
            max(least, settings.margin * float(np.quantile(values, settings.quantile)))
            if values.size
            else least
        )

    thresholds = {
        "ood_threshold": threshold(score[~play], 0.0),
        "knock_displacement_m": threshold(moved[harmless], HARM_M),
        "topple_probability": min(0.9, threshold(fallen[harmless], 0.5)),
    }
    alarm = (moved > thresholds["knock_displacement_m"]) | (fallen > thresholds["topple_probability"])
    alarm &= reached  # as the judge does
    still = np.linalg.norm(path[:, 0] - start, axis=-1) < STILL_M
    unharmed = bystander & still & (rows["upright"][:, 0].numpy() > 0.5)
    commanded = np.concatenate([rows["tcp"][:, :1].numpy(), rows["command"][:, 1:, :3].numpy()], axis=1)
    return {
        "tcp_error_mm_at_0.4s": float(tcp_error[:, HORIZON // 2 - 1].mean() * 1e3),
        "tcp_error_mm_at_0.8s": float(tcp_error[:, -1].mean() * 1e3),
        "setpoint_error_mm_at_0.8s": float(setpoint_error[:, -1].mean() * 1e3),
        "object_error_mm_at_0.8s": float(object_error[:, -1].mean() * 1e3),
        "object_that_stays_error_mm_at_0.8s": float(stay_error[:, -1].mean() * 1e3),
        **Foresight.of(alarm, harmed, unharmed).metrics("model"),
        **Foresight.of(near(commanded, start, task.heights_m), harmed, unharmed).metrics("rule"),
        "held_out_windows": float(held_out.sum()),
    }, thresholds
