"""Trains the flow-matching chunk policy, so that it can go on from a chunk that is being carried out.

That is training-time real-time chunking (Black et al., arXiv 2512.05964): the first d steps of a chunk are given as they
are, d is drawn at random, and the loss counts the others. `continuations` says what those steps are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.expert import DT_S, HORIZON, Expert, ExpertState, Goal
from physai_base.kinematics import ArmKinematics
from physai_base.outcome import Situation
from physai_base.task import Task
from physai_base.trained_on import TASKS
from physai_base.values import EndEffectorState, SceneObject, SceneState
from physai_lab.data.continuations import continuations
from physai_lab.data.dataset import DatasetError, Episode, made_with, places_in, read_episodes
from physai_lab.progress import Progress
from physai_lab.training.checkpoint import dataset_id, save_checkpoint
from physai_lab.training.loop import Recipe, begin, optimize
from physai_policy.networks import joined, sampler, velocity_field
from physai_policy.shared import Share, joint_action, joint_names

FEATURE_CLIP = 5.0
RUNNING = 0.7  # of the training samples go on from a running chunk
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


def goal_at(episode: Episode, frame: int, task: Task) -> Goal:
    """What was to be done; see `observation.goal` of `physai_lab.data.dataset`."""
    target, destination = episode.columns["observation.goal"][frame].astype(int)
    things = (*task.objects, *task.places)
    return Goal(things[target], things[destination] if destination >= 0 else "")


def scene_of(episode: Episode, frame: int, task: Task) -> SceneState:
    """The recorded scene of one frame, so that training and serving share `features`."""
    columns = episode.columns
    labels, objects = (*task.objects, *task.places), len(task.objects)
    state = columns["observation.state"][frame].astype(float)
    speeds = columns["observation.velocity"][frame].astype(float)
    openings = state[len(speeds) :]  # of those that have a gripper
    stamp = int(columns["observation.stamp_ns"][frame])

    def rows(name: str, size: int) -> np.ndarray:
        return columns[f"observation.{name}"][frame].reshape(-1, size).astype(float)

    positions = np.vstack([rows("objects", 3), places_in(columns)[frame].reshape(-1, 3).astype(float)])
    velocities = np.vstack([rows("objects_velocity", 3), np.zeros((len(labels) - objects, 3))])
    upright = np.append(rows("upright", 1)[:, 0] > 0.5, np.ones(len(labels) - objects, bool))
    turns, sizes = rows("orientations", 4), rows("sizes", 3)
    things = tuple(
        SceneObject(
            id=i, label=label, position_m=positions[i], orientation=turns[i], covariance=np.zeros((6, 6)),
            velocity_m_s=velocities[i], size_m=sizes[i], confidence=1.0, last_seen_ns=stamp, upright=bool(upright[i]),
            kind=task.kind(label).name,
        )
        for i, label in enumerate(labels)
    )  # fmt: skip
    tools = tuple(
        EndEffectorState.at_rest(place, turn, float(opening))
        for place, turn, opening in zip(
            rows("tcp", 3), rows("tool_orientation", 4), [*openings, *np.zeros(len(speeds))], strict=False
        )
    )
    return SceneState(
        stamp_ns=stamp,
        objects=things,
        joint_position=state[: len(speeds)],
        joint_velocity=speeds,
        end_effectors=tools,
    )


@dataclass(frozen=True)
class Samples:
    """Moments of demonstrations, in the order in which they were recorded. Positions are absolute, base frame."""

    observations: np.ndarray  # (N, F)
    states: list[ExpertState]
    plans: np.ndarray  # (N, H, D) what the expert would do from there, named by the task's action
    commands: np.ndarray  # (N, D) what the arm was told at that moment, noise and delay included
    following: np.ndarray  # (N,) how many of the next moments belong to the same motion, dt apart
    episode: np.ndarray  # (N,)

    @property
    def tool(self) -> np.ndarray:
        """(N, D) where the tool was, 0 for the gripper: what chunks are relative to."""
        return np.array([[*state.tool, 0.0] for state in self.states])


def load_samples(root: Path, embodiment: Embodiment, task: Task) -> Samples:
    """The demonstrations of a dataset; play is left out.

    Raises:
        DatasetError: there are none.
    """
    kinematics, expert = ArmKinematics(embodiment), task.expert(embodiment)
    columns: dict[str, list[Any]] = {
        name: [] for name in ("observations", "states", "plans", "commands", "following", "episode")
    }
    for index, episode in enumerate(read_episodes(root)):
        if episode.kind == "play":
            continue
        wrench = episode.columns["observation.wrench"].astype(float)
        gaps_s = np.diff(episode.columns["observation.stamp_ns"]) / 1e9
        regular = np.append(np.abs(gaps_s - DT_S) < DT_S / 10, False)
        following = np.zeros(len(episode), int)
        for frame in reversed(range(len(episode) - 1)):
            following[frame] = following[frame + 1] + 1 if regular[frame] else 0
        for frame in range(len(episode)):
            goal = goal_at(episode, frame, task)
            scene = scene_of(episode, frame, task)
            twist = kinematics.jacobian(scene.joint_position) @ scene.joint_velocity
            now = Situation.perceived(scene, twist, wrench[frame])
            columns["observations"].append(task.features(now, goal))
            columns["states"].append(expert.state(now, goal))
        columns["plans"].extend(episode.columns["action.chunk"].reshape(len(episode), HORIZON, -1))
        columns["commands"].extend(episode.columns["observation.command"])
        columns["following"].extend(following)
        columns["episode"].extend([index] * len(episode))
    if not columns["observations"]:
        raise DatasetError(f"{root}: holds no demonstrations; make some with `physai demos`")
    states = columns.pop("states")
    return Samples(states=states, **{name: np.array(values) for name, values in columns.items()})


def build_network(names: tuple[str, ...], columns: int, settings: PolicyTraining) -> Any:
    """The velocity field of these settings on features with these names, see `physai_policy.networks`."""
    return velocity_field(names, HORIZON, DT_S, settings.width, settings.blocks, columns)


def train_policy(
    data: Path,
    out: Path,
    embodiment: Embodiment,
    task: Task,
    settings: PolicyTraining | None = None,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Train on the dataset at `data` and write a checkpoint to `out`; returns its metrics."""
    settings = settings or PolicyTraining()
    trained_on = made_with(data, task, embodiment)  # before the time is spent
    samples = load_samples(data, embodiment, task)
    network, notes = fit(samples, task.feature_names(), embodiment, task, settings, progress)
    save_checkpoint(out, "policy", network, {**notes, "data": dataset_id(data), "trained_on": trained_on})
    return dict(notes["metrics"])


def train_shared_policy(
    data: Sequence[tuple[Task, Path]],
    out: Path,
    embodiment: Embodiment,
    settings: PolicyTraining | None = None,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Train one network for several tasks, each on its own dataset, and write a checkpoint to `out`; returns its metrics.

    Raises:
        DatasetError: a task comes twice; a dataset was made with something else.
    """
    settings = settings or PolicyTraining()
    if len({task.definition for task, _ in data}) < len(data):
        raise DatasetError(f"each task may be given once: {', '.join(task.definition for task, _ in data)}")
    made = {task.definition: made_with(root, task, embodiment) for task, root in data}
    tasks = [task for task, _ in data]
    names, action = joint_names(tasks), joint_action(tasks)
    rows = []
    for task, root in data:
        share, samples = Share.of(task, names, action), load_samples(root, embodiment, task)
        rows.append(rows_of(samples, task.expert(embodiment), settings.seed, progress).widened(share, action))
    grip_m = float(np.mean([task.grip_m for task in tasks]))
    network, notes = learn(rows, names, grip_m, settings, progress)
    ids = [f"{task.definition} {dataset_id(root)}" for task, root in data]
    trained_on = {**next(iter(made.values())), TASKS: made}  # the robot's values are the same in all
    save_checkpoint(
        out, "policy", network, {**notes, "data": ", ".join(ids), "trained_on": trained_on, "tasks": [*made]}
    )
    return dict(notes["metrics"])


@dataclass(frozen=True)
class Rows:
    """What a network learns from; setpoints (N, H, D) are relative to the tool, those to come to the last one that is given."""

    observations: np.ndarray  # (N, F); nan where there is no such feature
    fresh: np.ndarray  # what the expert would do
    prefixes: np.ndarray  # what is given
    counts: np.ndarray  # (N,) so many steps of it
    continued: np.ndarray  # what the expert would do after that
    held_out: np.ndarray  # (N,)

    def widened(self, share: Share, action: Sequence[str]) -> Rows:
        """The same for a network that knows other tasks, too, with chunks of the columns `action`."""

        def wide(chunks: np.ndarray) -> np.ndarray:
            result = np.zeros((*chunks.shape[:-1], len(action)))
            result[..., share.columns] = chunks
            return result

        return replace(
            self, observations=share.widened(self.observations, np.full(len(share.names), np.nan)),
            fresh=wide(self.fresh), prefixes=wide(self.prefixes), continued=wide(self.continued),
        )  # fmt: skip


def rows_of(samples: Samples, expert: Expert, seed: int, progress: Progress | None = None) -> Rows:
    """What is to be learnt of one task."""
    told, counts, continued = continuations(
        expert, samples.states, samples.commands, samples.following, seed, progress
    )
    tool, moves = samples.tool[:, None], np.append(np.ones(samples.plans.shape[-1] - 1), 0.0)
    end = told[np.arange(len(told)), counts - 1][:, None] * moves
    held_out = np.isin(samples.episode, np.unique(samples.episode)[::20])
    return Rows(samples.observations, samples.plans - tool, told - tool, counts, continued - end, held_out)


def fit(
    samples: Samples,
    names: tuple[str, ...],
    embodiment: Embodiment,
    task: Task,
    settings: PolicyTraining,
    progress: Progress | None = None,
) -> tuple[Any, dict[str, Any]]:
    """The trained velocity field on observations with these names, and the notes of its checkpoint, metrics among them."""
    rows = rows_of(samples, task.expert(embodiment), settings.seed, progress)
    return learn([rows], names, task.grip_m, settings, progress)


def learn(
    parts: Sequence[Rows],
    names: tuple[str, ...],
    grip_m: float,
    settings: PolicyTraining,
    progress: Progress | None = None,
) -> tuple[Any, dict[str, Any]]:
    """The trained velocity field on all `parts`, as much of each in every batch, and the notes of its checkpoint."""
    import torch

    rng = begin(settings.seed)
    observations, fresh, prefixes, counts, continued, held_out = (
        np.concatenate([getattr(part, entry.name) for part in parts]) for entry in fields(Rows)
    )
    columns = fresh.shape[-1]
    moves = np.append(np.ones(columns - 1), 0.0)
    mean, std = np.nanmean(observations, 0), np.nanstd(observations, 0)
    std = np.where(std < 1e-4, 1.0, std)
    # Positions are relative to the tool or to the last given step: zero is the tool in both.
    offset, scale = fresh.mean((0, 1)) * (1 - moves), fresh.std((0, 1)) + 1e-6
    normalized = np.nan_to_num((observations - mean) / std)
    x = torch.from_numpy(np.clip(normalized, -FEATURE_CLIP, FEATURE_CLIP))
    part_of = np.repeat(np.arange(len(parts)), [len(part.counts) for part in parts])
    train_rows = [np.flatnonzero(~held_out & (part_of == part)) for part in range(len(parts))]
    shares = [len(share) for share in np.array_split(np.arange(settings.batch), len(parts))]

    def some_rows() -> np.ndarray:
        """(batch,) of each part as many, in any order."""
        drawn = [rows[rng.integers(len(rows), size=n)] for rows, n in zip(train_rows, shares, strict=True)]
        return rng.permutation(np.concatenate(drawn)) if len(drawn) > 1 else drawn[0]

    def batch_of(rows: np.ndarray, running: np.ndarray) -> tuple[Any, Any, Any, Any]:
        """Observations, steps ahead, given steps, and which those are (B, H): none unless a chunk is `running`."""
        ahead = np.where(running[:, None, None], continued[rows], fresh[rows])
        given = running[:, None] & (np.arange(HORIZON) < counts[rows][:, None])
        return (
            x[torch.from_numpy(rows)],
            torch.from_numpy(((ahead - offset) / scale).astype(np.float32)),
            torch.from_numpy((given[:, :, None] * (prefixes[rows] - offset) / scale).astype(np.float32)),
            torch.from_numpy(given.astype(np.float32)),
        )

    network = build_network(names, columns, settings)
    known = {"mean": mean, "std": std, "action_mean": offset, "action_std": scale}
    for name, values in known.items():
        getattr(network.anticipation, name).copy_(torch.from_numpy(values))
    network.anticipation.grasped_m.fill_(grip_m)

    def loss_of_a_batch() -> Any:
        """Flow matching: the velocity from noise to what the expert would do."""
        rows = some_rows()
        observation, ahead, prefix, given = batch_of(rows, rng.random(settings.batch) < RUNNING)
        observation = observation + OBSERVATION_NOISE * torch.randn(observation.shape)
        noise = torch.randn(settings.batch, HORIZON, columns)
        # The executed sample starts from little noise: make sure that the field is good there, too.
        noise[: settings.batch // 4] = 0.0
        time = torch.rand(settings.batch, 1)
        position = time[:, :, None] * ahead + (1 - time[:, :, None]) * noise
        context = network.context(observation, prefix, given)
        return ((network(context, position, time) - (ahead - noise)) ** 2).mean()

    recipe = Recipe(settings.steps, settings.learning_rate, average=settings.ema)
    average = optimize(network, loss_of_a_batch, recipe, progress)
    chunks_of = sampler(average, settings.flow_steps).eval()
    metrics = {"samples": float(sum(map(len, train_rows)))}
    test_rows = np.flatnonzero(held_out)
    for name, running in (("fresh", False), ("continued", True)):
        observation, ahead, prefix, given = batch_of(test_rows, np.full(len(test_rows), running))
        with torch.no_grad():
            chunk = chunks_of(observation, torch.zeros_like(ahead), prefix, given)
            error = ((chunk - joined(prefix, given, ahead)).numpy() * scale)[given.numpy() == 0]
        metrics[f"held_out_position_error_mm_{name}"] = float(np.abs(error[:, :3]).mean() * 1e3)
        metrics[f"held_out_width_error_mm_{name}"] = float(np.abs(error[:, -1]).mean() * 1e3)
    notes = {
        "settings": asdict(settings), "observation_mean": mean.tolist(), "observation_std": std.tolist(),
        "action_mean": offset.tolist(), "action_std": scale.tolist(), "metrics": metrics,
    }  # fmt: skip
    return average, notes
