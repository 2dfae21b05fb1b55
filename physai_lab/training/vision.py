"""Trains the policy that looks: first to say where things are, then what to do with what it says.

1. The encoder. Key points are found in images by spatial softmax and lifted to where objects and boards are. Where they really
   are is known in training alone: key points are pulled to where the simulator's cameras project them, places to the
   truth, each camera with the likelihood of an error as large as it says of itself. Lifting is geometry, and a few dozen
   recorded layouts do not teach it; it also learns from made-up ones, projected by the recorded cameras without any image.
2. The velocity field of the state policy, on the features that the encoder works out from images, errors included. The
   encoder rests, so that every image is looked at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.kinematics import TOOL_DOWN
from physai_base.task import Task
from physai_lab.data.dataset import DatasetError, image_column, made_with, places_in, read_episodes, views_of
from physai_lab.progress import Progress
from physai_lab.training.checkpoint import dataset_id, save_checkpoint
from physai_lab.training.loop import Recipe, begin, optimize
from physai_lab.training.policy import FEATURE_CLIP, PolicyTraining, fit, load_samples
from physai_policy.images import View
from physai_policy.vision import seen_feature_names, state_vector
from physai_policy.vision_networks import Eye, vision_encoder, vision_policy

HELD_OUT = 10  # every so many-th demonstration is kept from training, to measure
POINT_WEIGHT = 0.3  # of an error of one cell of a heat map against one unit of the places' loss
MADE_UP = 256  # layouts that never were in each step
POINT_NOISE = 0.6  # of those, pixels of a view
POINTS_LOST = 0.05  # of those, as if something hid them
MARGIN_M = 0.08  # by which made-up layouts go beyond where objects start
UNIT_M = 0.01  # errors count in centimetres
WIDTH_NOISE_M = 0.0003
TOOL_NOISE_M = 0.001


@dataclass(frozen=True)
class VisionTraining:
    """Settings of the training."""

    steps: int = 3_000  # of the encoder
    batch: int = 24
    channels: int = 16
    width: int = 256  # of what lifts key points
    learning_rate: float = 2e-3
    field: PolicyTraining = field(default_factory=PolicyTraining)
    seed: int = 0


@dataclass(frozen=True)
class Frames:
    """Every frame of a dataset with images, play included; lengths in m, base frame."""

    views: tuple[View, ...]
    images: list[np.ndarray]  # for each view (N, h, w, 3) uint8
    marks: list[
        np.ndarray
    ]  # for each view (N, P, 3): x and y of its points from -1 to 1, and 1 where it is in view
    state: np.ndarray  # (N, 7) see `physai_policy.vision.STATE`
    things: np.ndarray  # (N, objects + places, 3)
    goal: np.ndarray  # (N, objects + places)
    poses: list[np.ndarray]  # for each view (N, 3, 4) T_base_optical
    play: np.ndarray  # (N,)
    episode: np.ndarray  # (N,)

    @property
    def held_out(self) -> np.ndarray:
        """(N,) whether a frame is kept from training."""
        return np.isin(self.episode, np.unique(self.episode[~self.play])[::HELD_OUT])


def eyes_of(views: Sequence[View], embodiment: Embodiment, task: Task) -> tuple[Eye, ...]:
    """A camera that stands fixed looks for the markers, too: it may have been moved a little."""
    points = 2 * len(task.objects) + len(task.places)
    fixed = {camera.name: camera.parent == embodiment.base_frame for camera in embodiment.cameras}
    return tuple(
        Eye(
            view.camera,
            not fixed[view.camera],
            points + len(task.workcell.markers.centers) * fixed[view.camera],
        )
        for view in views
    )


def points_of(things: np.ndarray, eye: Eye, task: Task) -> np.ndarray:
    """(N, P, 3) what an eye looks for: foot and rim of each object, boards, and markers; base frame."""
    objects = len(task.objects)
    feet = things[:, :objects]
    parts = [feet, feet + task.heights_m[:, None] * [0, 0, 1], things[:, objects:]]
    if not eye.on_tool:
        markers = np.array([[*centre, 0.0] for centre in task.workcell.markers.centers.values()])
        parts.append(np.broadcast_to(markers, (len(things), *markers.shape)))
    return np.concatenate(parts, axis=1)


def project(points: np.ndarray, poses: np.ndarray, view: View, intrinsics: np.ndarray) -> np.ndarray:
    """(N, P, 3): where `points` (N, P, 3) are in a view, x and y from -1 to 1, and 1 where they are in view.

    `poses` (N, 3, 4): T_base_optical of each image.
    """
    local = np.einsum("nji,npj->npi", poses[:, :, :3], points - poses[:, None, :, 3])
    front = np.maximum(local[..., 2:], 1e-3)
    pixels = (local / front) @ intrinsics[:2].T + 0.5 - np.array(view.crop[:2])
    marks = pixels * 2 / np.array(view.crop[2:]) - 1
    inside = (np.abs(marks) < 1).all(axis=2) & (local[..., 2] > 0.01)
    return np.concatenate([marks, inside[..., None]], axis=2).astype(np.float32)


def nominal(eye: Eye, view: View, embodiment: Embodiment, task: Task) -> dict[str, np.ndarray]:
    """What the network knows of a camera beforehand: the buffers `lens`, `centre` and `rise` of its `CameraEncoder`."""
    camera = embodiment.camera(view.camera)
    pose, turned = camera.nominal_pose(), TOOL_DOWN if eye.on_tool else np.eye(3)
    x, y, width, height = view.crop
    pixel = np.array([[width / 2, 0, x + width / 2 - 0.5], [0, height / 2, y + height / 2 - 0.5], [0, 0, 1]])
    return {
        "lens": turned @ pose[:3, :3] @ np.linalg.inv(camera.intrinsics()) @ pixel,
        "centre": turned @ pose[:3, 3],
        "rise": np.concatenate([np.zeros(len(task.objects)), task.heights_m, np.zeros(len(task.places))]),
        "grasp": np.array([task.kind(task.objects[0]).grip_height_m]),
    }


def load_frames(root: Path, embodiment: Embodiment, task: Task) -> Frames:
    """The frames of a dataset made with `physai demos --images`.

    Raises:
        DatasetError: it has no images.
    """
    from physai_base.kinematics import ArmKinematics

    views = views_of(root)
    if not views:
        raise DatasetError(f"{root}: has no images; make a dataset with `physai demos --images`")
    kinematics, eyes = ArmKinematics(embodiment), eyes_of(views, embodiment, task)
    images: list[list[np.ndarray]] = [[] for _ in views]
    marks: list[list[np.ndarray]] = [[] for _ in views]
    poses: list[list[np.ndarray]] = [[] for _ in views]
    states, layouts, goals, play, numbers = [], [], [], [], []
    for index, episode in enumerate(read_episodes(root, images=True)):
        columns, length = episode.columns, len(episode)
        things = np.concatenate([columns["observation.objects"], places_in(columns)], axis=1).reshape(
            length, -1, 3
        )
        for k, (view, eye) in enumerate(zip(views, eyes, strict=True)):
            images[k].append(columns[image_column(view)])
            poses[k].append(
                columns[f"observation.camera_pose.{view.camera}"].reshape(length, 3, 4).astype(float)
            )
            intrinsics = embodiment.camera(view.camera).intrinsics()
            marks[k].append(project(points_of(things, eye, task), poses[k][-1], view, intrinsics))
        for joints, speeds, tool in zip(
            columns["observation.state"],
            columns["observation.velocity"],
            columns["observation.tcp"],
            strict=True,
        ):
            n = len(speeds)
            velocity = kinematics.jacobian(joints[:n].astype(float))[:3] @ speeds
            states.append(state_vector(tool[:3], velocity, float(joints[n])))
        goal = columns["observation.goal"].astype(int)
        chosen = np.zeros((length, things.shape[1]), np.float32)
        chosen[np.arange(length), goal[:, 0]] = 1
        chosen[np.arange(length), goal[:, 1]] = 1
        layouts.append(things)
        goals.append(chosen)
        play.extend([episode.kind == "play"] * length)
        numbers.extend([index] * length)
    return Frames(
        views, [np.concatenate(part) for part in images], [np.concatenate(part) for part in marks], np.array(states),
        np.concatenate(layouts).astype(np.float32), np.concatenate(goals), [np.concatenate(part) for part in poses], np.array(play), np.array(numbers),
    )  # fmt: skip


def made_up(state: np.ndarray, task: Task, rng: np.random.Generator) -> np.ndarray:
    """(N, objects + places, 3) m: layouts that go with where the tool is (N, 7) and how wide the gripper stands.

    Objects stand on the table, below the hand more often than chance has it, or on a board; one is in a hand that is as wide
    as an object.
    """
    count, objects, boards = len(state), len(task.objects), task.boards
    centre = rng.uniform(
        [boards.region_x[0], boards.region_y[0]], [boards.region_x[1], boards.region_y[1]], (count, 2)
    )
    yaw = rng.uniform(*boards.region_yaw, count)
    along = np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
    places = np.stack(
        [
            np.column_stack([centre + offset * along, np.full(count, height)])
            for offset, height in zip(boards.offsets_x_m, boards.heights_m, strict=True)
        ],
        axis=1,
    )
    region = task.region(task.objects[0])
    low, high = np.array([region.x, region.y]).T + [[-MARGIN_M], [MARGIN_M]]
    shape, tool = (count, objects), state[:, None, :3]
    level = places[np.arange(count)[:, None], rng.integers(len(boards.labels), size=shape)]
    spots = {
        "table": np.concatenate([rng.uniform(low, high, (*shape, 2)), np.zeros((*shape, 1))], axis=2),
        "below": (tool + rng.normal(0, 0.05, (*shape, 3))) * [1, 1, 0],
        "board": level + rng.uniform(-0.4, 0.4, (*shape, 3)) * [*boards.board_size_m[:2], 0],
    }
    found = np.choose(rng.choice(3, size=shape, p=[0.65, 0.2, 0.15])[..., None], list(spots.values()))
    grasped = task.grip_m
    held = (np.abs(state[:, 6] - grasped) < 0.006) & (rng.random(count) < 0.85)
    inside = (
        state[:, :3]
        + rng.normal(0, 1, (count, 3)) * [0.006, 0.006, 0.01]
        - [0, 0, task.kind(task.objects[0]).grip_height_m]
    )
    found[held, rng.integers(objects, size=count)[held]] = np.maximum(inside, [-1, -1, 0])[held]
    return np.concatenate([found, places], axis=1).astype(np.float32)


def build_encoder(views: Sequence[View], embodiment: Embodiment, task: Task, settings: VisionTraining) -> Any:
    """The encoder of these settings, see `physai_policy.vision_networks`."""
    return vision_encoder(
        eyes_of(views, embodiment, task), len(task.objects), len(task.places), settings.channels,
        settings.width, task.grip_m,
    )  # fmt: skip


def train_vision(
    data: Path,
    out: Path,
    embodiment: Embodiment,
    task: Task,
    settings: VisionTraining | None = None,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Train on the dataset at `data` and write a checkpoint to `out`; returns its metrics."""
    import time

    import torch

    settings = settings or VisionTraining()
    trained_on = made_with(data, task, embodiment)  # before the time is spent
    began_s = time.process_time()
    frames = load_frames(data, embodiment, task)
    encoder = train_encoder(frames, embodiment, task, settings, progress)
    metrics = {
        "frames": float(len(frames.state)),
        **measure(encoder, frames, len(task.objects)),
    }
    samples = load_samples(data, embodiment, task)
    with torch.no_grad():
        observations = np.concatenate(
            [
                encoder(images, state, goal).numpy()
                for images, state, goal, _, _ in batches(frames, np.flatnonzero(~frames.play), 256)
            ]
        )
    samples = replace(samples, observations=observations)
    network, notes = fit(samples, seen_feature_names(task), embodiment, task, settings.field, progress)
    metrics |= {"cpu_minutes": (time.process_time() - began_s) / 60, **notes.pop("metrics")}
    notes |= {
        "settings": asdict(settings), "views": [view.as_json() for view in frames.views], "metrics": metrics,
        "data": dataset_id(data), "trained_on": trained_on,
    }  # fmt: skip
    save_checkpoint(
        out, "vision", vision_policy(encoder, network, settings.field.flow_steps, FEATURE_CLIP), notes
    )
    return metrics


def train_encoder(
    frames: Frames, embodiment: Embodiment, task: Task, settings: VisionTraining, progress: Progress | None
) -> Any:
    """The encoder, trained on what is not held out."""
    import torch

    rng = begin(settings.seed)
    encoder = build_encoder(frames.views, embodiment, task, settings)
    rows = np.flatnonzero(~frames.held_out)
    tool = frames.state[rows][:, [0, 1, 2, 6]]
    eyes = eyes_of(frames.views, embodiment, task)
    for eye, view, part in zip(eyes, frames.views, encoder.cameras.values(), strict=True):
        places = frames.things[rows] - tool[:, None, :3] * eye.on_tool
        for name, values in (
            ("mean", places.mean(0)), ("std", places.std(0) + 1e-3), ("tool_mean", tool.mean(0)), ("tool_std", tool.std(0)),
            *nominal(eye, view, embodiment, task).items(),
        ):  # fmt: skip
            getattr(part, name).copy_(torch.from_numpy(values))
    encoder = encoder.to(memory_format=torch.channels_last)
    scales = [
        torch.tensor([view.size[1], view.size[0]]) / 8.0 for view in frames.views
    ]  # half a view in cells
    noise = torch.tensor([TOOL_NOISE_M] * 3 + [0.0] * 3 + [WIDTH_NOISE_M])
    off_mm = 0.0

    def loss_of_a_batch() -> Any:
        """Of recorded frames, and of where made-up layouts would be seen."""
        nonlocal off_mm
        picked = rng.choice(rows, settings.batch)
        ((images, state, _, marks, truth),) = batches(frames, picked, settings.batch)
        images = [varied(image) for image in images]
        joined, said = encoder.locate(images, state + noise * torch.randn(state.shape))
        loss = ((joined - truth) / UNIT_M).abs().clamp(max=20).mean()
        for (place, spread, points, logits), mark, scale in zip(said, marks, scales, strict=True):
            inside = mark[..., 2]
            apart = (((points - mark[..., :2]) * scale).square().sum(2) + 0.01).sqrt()
            loss = loss + POINT_WEIGHT * (apart * inside).sum() / inside.sum().clamp(min=1)
            loss = loss + POINT_WEIGHT * torch.nn.functional.binary_cross_entropy_with_logits(logits, inside)
            loss = loss + unlikelihood(place, spread, truth)
        picked = rng.choice(rows, MADE_UP)
        layout, tool = (
            made_up(frames.state[picked], task, rng),
            torch.from_numpy(frames.state[picked][:, [0, 1, 2, 6]]),
        )
        elsewhere = torch.from_numpy(layout) - tool[:, None, :3]
        for k, (eye, view, part) in enumerate(zip(eyes, frames.views, encoder.cameras.values(), strict=True)):
            intrinsics = embodiment.camera(view.camera).intrinsics()
            mark = torch.from_numpy(
                project(points_of(layout, eye, task), frames.poses[k][picked], view, intrinsics)
            )
            points = mark[..., :2].clamp(-2, 2) + torch.randn(mark[..., :2].shape) * POINT_NOISE / (
                4 * scales[k]
            )
            visible = mark[..., 2] * (torch.rand(mark.shape[:2]) > POINTS_LOST)
            place, spread = part.place(points, visible, tool)
            loss = loss + unlikelihood(place, spread, elsewhere)
        off_mm = (joined - truth).detach().norm(dim=2).median().item() * 1e3
        return loss

    recipe = Recipe(
        settings.steps, settings.learning_rate, warm_up=0.1, clip=5.0, fused=False, report_every=25
    )
    optimize(
        encoder, loss_of_a_batch, recipe, progress, lambda loss: f"where things are: {off_mm:.1f} mm off"
    )
    return encoder.to(memory_format=torch.contiguous_format).eval()


def unlikelihood(place: Any, spread: Any, truth: Any) -> Any:
    """Of the truth under Laplace distributions around `place` with the scales exp(`spread`), in m.

    Weighted by the scale itself: else what is badly known is never learnt (after Seitzer et al. 2022).
    """
    weight = (spread.detach() - np.log(UNIT_M)).exp().clamp(max=5)
    return (((place - truth).abs() / spread.exp() + spread) * weight).mean()


def varied(images: Any) -> Any:
    """Images (B, h, w, 3) as floats, each brighter or darker in every colour, and all of them grainy in one way."""
    import torch

    gain = 1 + 0.08 * torch.randn(len(images), 1, 1, 3)
    return (images.float() * gain + 3.0 * torch.randn(images.shape[1:])).clamp(0, 255)


def batches(
    frames: Frames, rows: np.ndarray, size: int
) -> Iterator[tuple[list[Any], Any, Any, list[Any], Any]]:
    """Images, state, goal, marks and offsets from the tool of these frames, `size` at a time, as tensors."""
    import torch

    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        state = torch.from_numpy(frames.state[part])
        yield (
            [torch.from_numpy(images[part]) for images in frames.images],
            state,
            torch.from_numpy(frames.goal[part]),
            [torch.from_numpy(marks[part]) for marks in frames.marks],
            torch.from_numpy(frames.things[part]) - state[:, None, :3],
        )


def measure(encoder: Any, frames: Frames, objects: int) -> dict[str, float]:
    """How far off target and place are, in mm; the target also near the tool, where millimetres decide."""
    import torch

    targets, places, near = [], [], []
    with torch.no_grad():
        for images, state, goal, _, truth in batches(frames, np.flatnonzero(frames.held_out), 256):
            off = (encoder.locate(images, state)[0] - truth).norm(dim=2)
            wanted = goal[:, :objects].bool()
            target = off[:, :objects][wanted]
            targets.append(target)
            places.append(off[:, objects:][goal[:, objects:].bool()])
            close = truth[:, :objects][wanted][:, :2].norm(dim=1) < 0.05
            near.append(target[close])
    found = {"target": torch.cat(targets), "place": torch.cat(places), "target_near": torch.cat(near)}
    return {
        f"held_out_{name}_{what}_mm": float(values.quantile(q)) * 1e3
        for name, values in found.items()
        for what, q in (("median", 0.5), ("p95", 0.95))
    }
