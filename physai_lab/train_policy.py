"""Trains the flow-matching chunk policy."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.kinematics import ArmKinematics
from physai_base.task import Task
from physai_base.values import SceneObject, SceneState
from physai_lab.checkpoint import Progress, dataset_id, save_checkpoint, use_all_cores
from physai_lab.dataset import HORIZON, DatasetError, Episode, read_episodes
from physai_policy.networks import sampler, velocity_field
from physai_policy.observation import Goal, features

FEATURE_CLIP = 5.0
OBSERVATION_NOISE = 0.01  # of a feature's standard deviation


@dataclass(frozen=True)
class PolicyTraining:
    """Settings of the training; the recipe is that of a residual flow-matching network on low-dimensional input."""

    steps: int = 12_000
    batch: int = 256
    width: int = 256
    blocks: int = 3
    learning_rate: float = 1e-3
    ema: float = 0.005
    flow_steps: int = 5
    seed: int = 0


def scene_of(episode: Episode, frame: int, task: Task) -> SceneState:
    """The recorded scene of one frame, so that training and serving share `features`."""
    columns = episode.columns
    state = columns["observation.state"][frame].astype(float)
    cups = columns["observation.cups"][frame].reshape(-1, 3).astype(float)
    shelf = columns["observation.shelf"][frame].reshape(-1, 3).astype(float)
    stamp = int(columns["observation.stamp_ns"][frame])
    objects = tuple(
        SceneObject(
            id=i, label=label, position_m=position, orientation=np.array([1.0, 0, 0, 0]), covariance=np.zeros((6, 6)),
            velocity_m_s=np.zeros(3), size_m=np.zeros(3), confidence=1.0, last_seen_ns=stamp,
        )
        for i, (label, position) in enumerate(
            zip(task.cups.labels + task.shelf.labels, np.vstack([cups, shelf]), strict=True)
        )
    )  # fmt: skip
    return SceneState(
        stamp_ns=stamp,
        objects=objects,
        joint_position=state[:-1],
        joint_velocity=columns["observation.velocity"][frame].astype(float),
        tcp_position_m=columns["observation.tcp"][frame].astype(float),
        tcp_orientation=np.array([0.0, 1.0, 0.0, 0.0]),
        gripper_width_m=float(state[-1]),
    )


def load_samples(root: Path, embodiment: Embodiment, task: Task) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Observations (N, F), chunks relative to the tool (N, H, 4) and episode indices (N,) of the expert's labels."""
    kinematics = ArmKinematics(embodiment)
    observations, chunks, owners = [], [], []
    for index, episode in enumerate(read_episodes(root)):
        if episode.kind == "play":
            continue
        goals = episode.columns["observation.goal"].astype(int)
        labels = episode.columns["action.chunk"].reshape(len(episode), HORIZON, 4)
        for frame in range(len(episode)):
            goal = Goal(task.cups.labels[goals[frame, 0]], task.shelf.labels[goals[frame, 1]])
            scene = scene_of(episode, frame, task)
            observations.append(features(scene, goal, task, kinematics))
            chunk = labels[frame].copy()
            chunk[:, :3] -= scene.tcp_position_m
            chunks.append(chunk)
            owners.append(index)
    if not observations:
        raise DatasetError(f"{root}: holds no demonstrations; make some with `physai demos`")
    return np.array(observations, np.float32), np.array(chunks, np.float32), np.array(owners)


def build_network(inputs: int, settings: PolicyTraining) -> Any:
    """The velocity field of these settings, see `physai_policy.networks`."""
    return velocity_field(inputs, HORIZON, settings.width, settings.blocks)


def train_policy(
    data: Path,
    out: Path,
    embodiment: Embodiment,
    task: Task,
    settings: PolicyTraining | None = None,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Train on the dataset at `data` and write a checkpoint to `out`; returns its metrics."""
    import torch

    settings = settings or PolicyTraining()
    use_all_cores()
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    observations, chunks, owners = load_samples(data, embodiment, task)
    held_out = np.isin(owners, np.unique(owners)[::20])
    mean, std = observations.mean(0), observations.std(0)
    std = np.where(std < 1e-4, 1.0, std)
    offset, scale = chunks.mean((0, 1)), chunks.std((0, 1)) + 1e-6
    x = torch.from_numpy(np.clip((observations - mean) / std, -FEATURE_CLIP, FEATURE_CLIP))
    y = torch.from_numpy((chunks - offset) / scale)
    x_train, y_train, x_test, y_test = x[~held_out], y[~held_out], x[held_out], y[held_out]

    network = build_network(x.shape[1], settings)
    average = copy.deepcopy(network)
    slow, fast = list(average.parameters()), list(network.parameters())
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=1e-4, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, settings.steps, pct_start=0.05
    )
    for step in range(settings.steps):
        rows = torch.from_numpy(rng.integers(len(x_train), size=settings.batch))
        observation = x_train[rows] + OBSERVATION_NOISE * torch.randn(settings.batch, x.shape[1])
        chunk, noise = y_train[rows], torch.randn(settings.batch, HORIZON, 4)
        # The executed sample starts from zero noise: make sure that the field is good there, too.
        noise[: settings.batch // 4] = 0.0
        time = torch.rand(settings.batch, 1)
        position = time[:, :, None] * chunk + (1 - time[:, :, None]) * noise
        loss = torch.nn.functional.mse_loss(network(observation, position, time), chunk - noise)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            decay = max(settings.ema, 1.0 / (step + 1))
            torch._foreach_lerp_(slow, fast, decay)
        if progress and step % 50 == 0:
            progress(step, settings.steps, f"loss {loss.item():.4f}")

    chunks_of = sampler(average, settings.flow_steps).eval()
    with torch.no_grad():
        error = (chunks_of(x_test, torch.zeros(len(x_test), HORIZON, 4)) - y_test).numpy() * scale
    metrics = {
        "held_out_position_error_mm": float(np.abs(error[..., :3]).mean() * 1e3),
        "held_out_width_error_mm": float(np.abs(error[..., 3]).mean() * 1e3),
        "samples": float(len(x_train)),
    }
    notes = {
        "settings": asdict(settings), "observation_mean": mean.tolist(), "observation_std": std.tolist(),
        "action_mean": offset.tolist(), "action_std": scale.tolist(), "metrics": metrics, "data": dataset_id(data),
    }  # fmt: skip
    save_checkpoint(out, "policy", average, notes)
    return metrics
