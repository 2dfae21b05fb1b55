"""Makes demonstrations with the scripted expert, and play for the world model, in the cell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_base.expert import DT_S, HORIZON, Expert, ExpertState, Goal
from physai_base.kinematics import ArmKinematics, Pose
from physai_base.outcome import Situation
from physai_base.task import Task
from physai_lab.data.continuations import led_along
from physai_lab.data.dataset import DatasetWriter, Episode, image_column
from physai_lab.evaluation.cell import Cell, Moment
from physai_lab.pool import work_on
from physai_policy.agent import AgentSettings
from physai_policy.images import View
from physai_policy.policy import ActionSpace, Observation, Prefix, Proposal, space_of_actions
from physai_sim.disturbance import DISTURBANCES
from physai_sim.scene import RANDOMIZABLE

# Evaluation draws seeds below this, demonstrations above: no cell of the one is in the other.
FIRST_DEMO_SEED = 1_000_000
PLAY_EVERY = 4
PLAY_S = 8.0
# Image stamp to a chunk in the controller, s: from a fast machine to a loaded one.
LATENCY_RANGE_S = (0.05, 0.25)
# Of objects, m/s: faster than elsewhere, so that those are well within what was learned.
MOVING_M_S = (0.02, 0.12)


def going_on(expert: Expert, state: ExpertState, prefix: Prefix | None) -> np.ndarray:
    """What the expert wants (H, D), of which the first rows are what the arm does anyway."""
    if prefix is None or not prefix.frozen:
        return expert.plan(state)
    rows = prefix.actions[: prefix.frozen]
    plan = expert.plan(led_along(expert, state, rows))  # its first row is where the given ones end
    return np.concatenate([rows[:-1], plan])[: len(plan)]


class ExpertPolicy:
    """The expert behind the policy's interface; `noise_m` perturbs what is executed, not what is recorded.

    It knows how things are, or only what perception makes of them.
    """

    name, horizon, dt_s = "expert", HORIZON, DT_S

    def __init__(
        self,
        cell: Cell,
        expert: Expert,
        goal: Goal,
        rng: np.random.Generator,
        noise_m: float,
        perceiving: bool = False,
    ) -> None:
        self._cell, self._expert, self._goal = cell, expert, goal
        self._rng, self._noise_m = rng, noise_m
        self._now = cell.situation_as_perceived if perceiving else cell.situation_as_seen

    def plan(self) -> np.ndarray:
        """The clean plan (H, D) from the present state."""
        return self._expert.plan(self._expert.state(self._now(), self._goal))

    def infer(self, observation: Observation, prefix: Prefix | None = None) -> Proposal:
        """The plan from where the running chunk leads, perturbed half of the time by an offset that grows along it."""
        plan = going_on(self._expert, self._expert.state(self._now(), self._goal), prefix)
        if self._noise_m and self._rng.random() < 0.5:
            lowest = plan[:, 2].min()
            direction = self._rng.normal(size=3) * [1, 1, 0.6]
            size = self._noise_m * self._rng.random() * direction / np.linalg.norm(direction)
            given = prefix.frozen if prefix else 0
            plan[given:, :3] += np.linspace(0, 1, len(plan) - given)[:, None] * size
            plan[:, 2] = np.maximum(plan[:, 2], min(0.03, lowest))
        return Proposal(plan[None], space_of_actions(self._cell.task.action), self.dt_s)


class PlayPolicy:
    """Aimless but smooth motion between random places, often low and among the objects."""

    name, horizon, dt_s = "play", HORIZON, DT_S

    def __init__(self, cell: Cell, rng: np.random.Generator) -> None:
        self._cell, self._rng = cell, rng
        self._left = 0
        self._goal: np.ndarray = np.zeros(3)
        self._speed, self._width = 0.3, cell.embodiment.gripper.opening_max
        task = cell.task
        spans = np.array([(r.x, r.y) for r in map(task.region, (*task.objects, *task.places))])
        low, high = spans[..., 0].min(axis=0), spans[..., 1].max(axis=0)
        self._room = np.append(low, 0.02), np.append(high, 0.4)

    def infer(self, observation: Observation, prefix: Prefix | None = None) -> Proposal:
        """A straight move towards the present random place."""
        rng, task = self._rng, self._cell.task
        if self._left == 0:
            self._left = int(rng.integers(2, 7))
            self._speed = rng.uniform(0.1, 0.5)
            self._width = float(self._cell.embodiment.openings_at(rng.choice([3 / 8, 1.0, 1.0]))[0])
            label = str(rng.choice(task.objects))
            if rng.random() < 0.6:
                self._goal = self._cell.scene.position(label) + rng.uniform(
                    [-0.08, -0.08, 0.02], [0.08, 0.08, 0.12]
                )
            else:
                self._goal = rng.uniform(*self._room)
        self._left -= 1
        offset = self._goal - observation.tool_m
        times = np.arange(HORIZON) * DT_S
        share = np.minimum(1.0, times * self._speed / max(1e-6, float(np.linalg.norm(offset))))
        path = np.column_stack([observation.tool_m + share[:, None] * offset, np.full(HORIZON, self._width)])
        return Proposal(path[None], ActionSpace.TOOL_POSITION, DT_S)


class Photographer:
    """Takes the images of an episode, each of a cell that looks another way: colours, light and camera are drawn anew."""

    def __init__(self, cell: Cell, views: tuple[View, ...], seed: int) -> None:
        self._cell, self._views = cell, views
        self._rng = np.random.default_rng([seed, 17])

    def take(self) -> dict[str, np.ndarray]:
        """The image columns of one frame."""
        if not self._views:
            return {}
        self._cell.scene.repaint(int(self._rng.integers(2**31)))
        row = {}
        for view in self._views:
            row[image_column(view)] = view.apply(self._cell.photograph(view.camera).rgb)
            row[f"observation.camera_pose.{view.camera}"] = self._cell.camera_pose(view.camera)[:3].ravel()
        return row


def columns_of(
    moments: list[Moment],
    chunks: list[np.ndarray],
    task: Task,
    kinematics: ArmKinematics,
    pictures: list[dict[str, np.ndarray]] | None = None,
) -> dict[str, np.ndarray]:
    """Columns of an episode from what was seen; frames where something was not in view are left out."""
    rows: dict[str, list[Any]] = {}
    ends = kinematics.embodiment.end_effectors
    for moment, chunk, images in zip(moments, chunks, pictures or [{}] * len(moments), strict=True):
        scene = moment.scene
        objects = [scene.find(label) for label in task.objects]
        places = [scene.find(label) for label in task.places]
        if any(thing is None for thing in (*objects, *places)):
            continue
        command = _commanded(kinematics.tool_pose(moment.reference), task)
        things = [thing for thing in (*objects, *places) if thing]
        labels = (*task.objects, *task.places)
        destination = moment.goal.destination
        hands = [e for e, end in zip(scene.end_effectors, ends, strict=True) if end.gripper.kind != "none"]
        row = {
            "observation.state": [*scene.joint_position, *(e.opening for e in hands)],
            "observation.velocity": scene.joint_velocity,
            "observation.tcp": np.concatenate([end.position_m for end in scene.end_effectors]),
            "observation.objects": np.concatenate([thing.position_m for thing in objects if thing]),
            "observation.objects_velocity": np.concatenate([thing.velocity_m_s for thing in objects if thing]),
            "observation.upright": [float(thing.upright) for thing in objects if thing],
            "observation.places": np.concatenate([np.zeros(0), *(place.position_m for place in places if place)]),
            "observation.orientations": np.concatenate([thing.orientation for thing in things]),
            "observation.sizes": np.concatenate([thing.size_m for thing in things]),
            "observation.tool_orientation": np.concatenate([end.orientation for end in scene.end_effectors]),
            "observation.wrench": moment.wrench,
            "observation.goal": [labels.index(moment.goal.target), labels.index(destination) if destination else -1],
            "observation.command": [*command, moment.gripper_command_m],
            "observation.stamp_ns": scene.stamp_ns,
            "action": chunk[1],
            "action.chunk": chunk.ravel(),
            **images,
        }  # fmt: skip
        for name, value in row.items():
            rows.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in rows.items()}


def _commanded(pose: Pose, task: Task) -> list[float]:
    """Where the tool is told to be, by the columns of the task's action but the last."""
    yaw = float(np.arctan2(pose.rotation[1, 0], pose.rotation[0, 0]))
    return [*pose.position, yaw][: len(task.action) - 1]


def goal_of(index: int, task: Task, now: Situation) -> Goal:
    """The task's goals in turn, of those that are possible as things are."""
    goals = [goal for goal in task.goals if task.possible(goal, now)]
    return goals[index % len(goals)]


def driven(task: Task, goal: Goal) -> str:
    """The label of what disturbances drive about."""
    return goal.target if goal.target in task.objects else task.carried(goal)


def make_episode(cell: Cell, index: int, seed: int, views: tuple[View, ...] = ()) -> Episode | None:
    """One episode: play now and then, otherwise a demonstration; None when the expert failed."""
    rng = np.random.default_rng([seed, 7])
    latency_s = rng.uniform(*LATENCY_RANGE_S)
    cell.randomize(seed, RANDOMIZABLE)
    goal = goal_of(index, cell.task, cell.situation())
    moments: list[Moment] = []
    chunks: list[np.ndarray] = []
    pictures: list[dict[str, np.ndarray]] = []
    photographer = Photographer(cell, views, seed)
    if index % PLAY_EVERY == PLAY_EVERY - 1:
        play = PlayPolicy(cell, rng)

        def record_play(moment: Moment) -> None:
            moments.append(moment)
            chunks.append(np.zeros((HORIZON, len(cell.task.action))))
            pictures.append(photographer.take())

        settings = AgentSettings(timeout_s=PLAY_S)
        cell.run(play, goal, "play", seed, settings=settings, record=record_play, latency_s=latency_s)
        return Episode(
            "play", False, "play", columns_of(moments, chunks, cell.task, cell.kinematics, pictures)
        )
    # Objects that stand, that move and that are pushed. One image does not show that an object moves.
    shares = [0.7, 0.0, 0.3] if views else [0.4, 0.35, 0.25]
    cell.disturb(driven(cell.task, goal), str(rng.choice(DISTURBANCES, p=shares)), seed, MOVING_M_S)
    expert = cell.task.expert(cell.embodiment)
    policy = ExpertPolicy(cell, expert, goal, rng, noise_m=0.0 if index % 3 == 0 else expert.disturbed_m)

    def record(moment: Moment) -> None:
        moments.append(moment)
        chunks.append(policy.plan())
        pictures.append(photographer.take())

    instruction = cell.task.order(goal)
    settings = AgentSettings(timeout_s=20.0, settle_s=0.8)
    result = cell.run(policy, goal, instruction, seed, settings=settings, record=record, latency_s=latency_s)
    if not result.success:
        return None
    return Episode(
        instruction, True, "expert", columns_of(moments, chunks, cell.task, cell.kinematics, pictures)
    )


_worker: tuple[Cell, tuple[View, ...]] | None = None


def _start_worker(embodiment: Embodiment, task: Task, sight: str, views: tuple[View, ...]) -> None:
    global _worker
    _worker = Cell(embodiment, task, sight=sight, render=bool(views)), views


def _work(job: tuple[int, int]) -> Episode | None:
    assert _worker is not None
    cell, views = _worker
    return make_episode(cell, *job, views)


def episodes(
    embodiment: Embodiment,
    task: Task,
    count: int,
    workers: int,
    seed: int = 0,
    sight: str = "camera",
    views: tuple[View, ...] = (),
) -> Iterator[Episode | None]:
    """`count` episodes made by `workers` processes, in order; None stands for a failed demonstration."""
    jobs = [(index, FIRST_DEMO_SEED + 10_000 * seed + index) for index in range(count)]
    yield from work_on(jobs, _work, workers, _start_worker, (embodiment, task, sight, views))


def views_of(embodiment: Embodiment) -> tuple[View, ...]:
    """What `physai demos --images` keeps: of the scene's camera objects, places and markers at 192 columns, of the tool's all
    at 160."""
    scene = embodiment.scene_camera
    crop = (scene.width // 10, scene.height // 15, scene.width * 9 // 10, scene.height * 4 // 5)
    views = [View(scene.name, crop, _size(crop, 192))]
    for camera in embodiment.tool_cameras:
        crop = (0, 0, camera.width, camera.height)
        views.append(View(camera.name, crop, _size(crop, 160)))
    return tuple(views)


def _size(crop: tuple[int, int, int, int], columns: int) -> tuple[int, int]:
    """(rows, columns) that keep the crop's shape."""
    return round((crop[3] - crop[1]) * columns / (crop[2] - crop[0])), columns


def make_demos(
    out: Path,
    embodiment: Embodiment,
    task: Task,
    count: int,
    workers: int,
    seed: int = 0,
    sight: str = "camera",
    progress: Callable[[int, int, str], None] | None = None,
    views: tuple[View, ...] = (),
) -> dict[str, int]:
    """Write a dataset of `count` tried episodes, with images if there are `views`; returns how many of each kind it holds.

    Images need `sight` "truth": perception could not follow a camera that is elsewhere in every image.
    """
    if views and sight != "truth":
        raise PhysaiError(
            "images are recorded with --sight truth alone: the camera is elsewhere in each of them"
        )
    fps = round(embodiment.scene_camera.rate_hz)
    writer = DatasetWriter(out, embodiment, task, fps, views)
    kept = {"expert": 0, "play": 0, "failed": 0}
    try:
        for done, episode in enumerate(
            episodes(embodiment, task, count, workers, seed, sight, views), start=1
        ):
            if episode is not None and len(episode) > HORIZON:
                writer.add(episode)
                kept[episode.kind] += 1
            else:
                kept["failed"] += 1
            if progress:
                note = f"{kept['expert']} demonstrations, {kept['play']} play, {kept['failed']} failed"
                progress(done, count, note)
    finally:
        # Also after Ctrl-C: what was recorded until then is a complete dataset.
        writer.close()
    return kept
