"""Recorded episodes in the layout of LeRobotDataset v3.0: one closed shard per episode, images as PNG inside it.

A shard is written under a temporary name, flushed and renamed, so that a killed writer leaves whole
episodes only. What physai needs beyond the format is in `meta/physai.json`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_base.expert import DT_S, HORIZON
from physai_base.task import Task
from physai_base.trained_on import as_json, differences, values_of
from physai_policy.images import View

CODEBASE_VERSION = "v3.0"
NEEDED = ("observation.orientations", "observation.wrench")  # columns that came last


class DatasetError(PhysaiError):
    """A dataset that is missing or does not have the expected columns."""


def feature_shapes(
    embodiment: Embodiment, task: Task, views: Sequence[View] = ()
) -> dict[str, tuple[int, ...]]:
    """Columns of a frame and their shapes, images apart; SI units, base frame."""
    objects, places, columns = len(task.objects), len(task.places), len(task.action)
    ends = embodiment.end_effectors
    grippers = sum(end.gripper.kind != "none" for end in ends)
    return {
        # Joint angles, then the opening of every gripper.
        "observation.state": (len(embodiment.joints) + grippers,),
        "observation.velocity": (len(embodiment.joints),),
        "observation.tcp": (3 * len(ends),),
        "observation.objects": (3 * objects,),
        "observation.objects_velocity": (3 * objects,),
        "observation.upright": (objects,),
        **({"observation.places": (3 * places,)} if places else {}),
        "observation.orientations": (4 * (objects + places),),  # w, x, y, z
        "observation.sizes": (3 * (objects + places),),  # as seen, along each one's own axes
        "observation.tool_orientation": (4 * len(ends),),
        # What follows is of the first end effector, which demonstrations drive.
        "observation.wrench": (6,),  # what pushes the tool, N and Nm
        # Index of the target and of the destination among objects and places; -1: there is none.
        "observation.goal": (2,),
        "observation.command": (columns,),  # what the tool and the gripper were told to be at this moment
        "action": (columns,),  # first setpoint ahead, named by the task's action
        "action.chunk": (HORIZON * columns,),
        # Where each camera was, T_base_optical without its last row: for training, which may know it.
        **{f"observation.camera_pose.{view.camera}": (12,) for view in views},
    }


def places_in(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """(frames, 3 k) m: where the places were; of a task that has none there is no such column."""
    return columns.get("observation.places", np.zeros((len(columns["observation.state"]), 0)))


def image_column(view: View) -> str:
    """Name of the column that holds a view."""
    return f"observation.images.{view.camera}"


@dataclass(frozen=True)
class Episode:
    """One recorded episode: an array (frames, …) for each column."""

    task: str
    success: bool
    kind: str  # "expert" | "play" | "policy"
    columns: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.columns["observation.state"])


class DatasetWriter:
    """Appends episodes to a dataset directory; `close` writes the statistics and the metadata."""

    def __init__(
        self, root: Path, embodiment: Embodiment, task: Task, fps: int, views: Sequence[View] = ()
    ) -> None:
        self.root, self._views = root, tuple(views)
        self._embodiment, self._task, self._fps = embodiment, task, fps
        self._rows: list[dict[str, Any]] = []
        self._tasks: list[str] = []
        self._kinds: list[dict[str, Any]] = []
        self._frames = 0
        self._values = {image_column(view): np.zeros((3, 256), np.int64) for view in views}
        if root.exists() and any(root.iterdir()):
            raise DatasetError(f"{root}: exists already; give another directory or remove it")
        for folder in ("data/chunk-000", "meta/episodes/chunk-000"):
            (root / folder).mkdir(parents=True, exist_ok=True)

    def add(self, episode: Episode) -> None:
        """Write one episode as a closed shard."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        index, length = len(self._rows), len(episode)
        if episode.task not in self._tasks:
            self._tasks.append(episode.task)
        columns: dict[str, pa.Array] = {}
        for name, shape in feature_shapes(self._embodiment, self._task, self._views).items():
            values = np.ascontiguousarray(episode.columns[name], dtype=np.float32).reshape(length, -1)
            if values.shape[1] != int(np.prod(shape)) or not np.isfinite(values).all():
                raise DatasetError(
                    f"episode {index}: column {name} has shape {values.shape} or is not finite"
                )
            columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
        columns["observation.stamp_ns"] = pa.array(
            np.asarray(episode.columns["observation.stamp_ns"], np.int64)
        )
        for view in self._views:
            images = [
                {"bytes": png(image), "path": None} for image in episode.columns[image_column(view)]
            ]  # as the `datasets` library keeps its feature Image
            columns[image_column(view)] = pa.array(
                images, pa.struct([("bytes", pa.binary()), ("path", pa.string())])
            )
            for channel, counts in enumerate(self._values[image_column(view)]):
                pixels = episode.columns[image_column(view)][..., channel].ravel()
                counts += np.bincount(pixels, minlength=256)
        frames = np.arange(length)
        columns["timestamp"] = pa.array((frames / self._fps).astype(np.float32))
        columns["frame_index"] = pa.array(frames)
        columns["episode_index"] = pa.array(np.full(length, index))
        columns["index"] = pa.array(frames + self._frames)
        columns["task_index"] = pa.array(np.full(length, self._tasks.index(episode.task)))
        path = self.root / f"data/chunk-000/file-{index:03d}.parquet"
        temporary = path.with_suffix(".tmp")
        pq.write_table(pa.table(columns), temporary, compression="snappy")
        _publish(temporary, path)
        self._rows.append(
            {
                "episode_index": index,
                "tasks": [episode.task],
                "length": length,
                "data/chunk_index": 0,
                "data/file_index": index,
                "dataset_from_index": self._frames,
                "dataset_to_index": self._frames + length,
                "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": 0,
            }
        )
        self._kinds.append({"task": episode.task, "kind": episode.kind, "success": episode.success})
        self._frames += length

    def close(self) -> None:
        """Write metadata and statistics; the dataset is complete after that."""
        import pandas as pd
        import pyarrow.parquet as pq

        if not self._rows:
            return  # nothing to describe
        stats: dict[str, dict[str, Any]] = {}
        shapes = feature_shapes(self._embodiment, self._task, self._views)
        table = pq.ParquetDataset(self.root / "data").read(columns=list(shapes))
        for name in shapes:
            values = np.stack(table[name].to_numpy(zero_copy_only=False)).astype(np.float64)
            quantiles = {
                f"q{int(q * 100):02d}": np.quantile(values, q, axis=0).tolist()
                for q in (0.01, 0.1, 0.5, 0.9, 0.99)
            }
            stats[name] = {
                "min": values.min(0).tolist(), "max": values.max(0).tolist(), "mean": values.mean(0).tolist(),
                "std": values.std(0).tolist(), "count": [len(values)], **quantiles,
            }  # fmt: skip
        features: dict[str, Any] = {
            name: {"dtype": "float32", "shape": list(shape), "names": None} for name, shape in shapes.items()
        }
        for name, given in (
            ("observation.state", self._embodiment.state_features),
            ("action", self._embodiment.action_features),
        ):
            if len(given) == shapes[name][0]:
                features[name]["names"] = list(given)
        for name in ("observation.stamp_ns", "frame_index", "episode_index", "index", "task_index"):
            features[name] = {"dtype": "int64", "shape": [1], "names": None}
        features["timestamp"] = {"dtype": "float32", "shape": [1], "names": None}
        for view in self._views:
            name, shape = image_column(view), [*view.size, 3]
            features[name] = {"dtype": "image", "shape": shape, "names": ["height", "width", "channels"]}
            count = int(self._values[name].sum()) // int(np.prod(shape))
            stats[name] = {**image_statistics(self._values[name]), "count": [count]}
        tasks = pd.DataFrame(
            {"task_index": range(len(self._tasks))}, index=pd.Index(self._tasks, name="task")
        )
        tasks.to_parquet(self.root / "meta/tasks.parquet")
        pd.DataFrame(self._rows).to_parquet(self.root / "meta/episodes/chunk-000/file-000.parquet")
        _write_json(self.root / "meta/stats.json", stats)
        _write_json(
            self.root / "meta/physai.json",
            {
                "episodes": self._kinds,
                "task": self._task.name,
                "horizon": HORIZON,
                "dt_s": DT_S,
                "views": [view.as_json() for view in self._views],
                "made_with": as_json(values_of(self._task, self._embodiment)),
            },
        )
        _write_json(
            self.root / "meta/info.json",
            {
                "codebase_version": CODEBASE_VERSION, "fps": self._fps, "features": features,
                "total_episodes": len(self._rows), "total_frames": self._frames, "total_tasks": len(self._tasks),
                "chunks_size": 1000, "data_files_size_in_mb": 100, "video_files_size_in_mb": 200,
                "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet", "video_path": None,
                "robot_type": self._embodiment.name, "splits": {"train": f"0:{len(self._rows)}"},
            },
        )  # fmt: skip


def image_statistics(counts: np.ndarray) -> dict[str, Any]:
    """Of each channel in 0..1, as the format wants them, (3, 1, 1), from how often it had each value (3, 256)."""
    values, total = np.arange(256) / 255.0, counts.sum(1, keepdims=True)
    share = counts.cumsum(1) / total
    mean = counts @ values[:, None] / total
    found = {
        "min": values[(share > 0).argmax(1)], "max": values[(share >= 1).argmax(1)],
        "mean": mean, "std": np.sqrt((counts * (values - mean) ** 2).sum(1) / total[:, 0]),
        **{f"q{int(q * 100):02d}": values[(share >= q).argmax(1)] for q in (0.01, 0.1, 0.5, 0.9, 0.99)},
    }  # fmt: skip
    return {name: value.reshape(3, 1, 1).tolist() for name, value in found.items()}


def png(image: np.ndarray) -> bytes:
    """A file's content for an image (h, w, 3) uint8 RGB."""
    import cv2

    return cv2.imencode(".png", image[:, :, ::-1])[1].tobytes()


def from_png(data: bytes) -> np.ndarray:
    """The image (h, w, 3) uint8 RGB of a file's content."""
    import cv2

    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise DatasetError("an image of the dataset is damaged: it cannot be decoded")
    return image[:, :, ::-1]


def views_of(root: Path) -> tuple[View, ...]:
    """What a dataset's images show; none when it has no images."""
    return tuple(View.parse(view) for view in _notes(root)[1].get("views", ()))


def made_with(root: Path, task: Task, embodiment: Embodiment) -> dict[str, Any]:
    """The values of task and robot that a dataset was made with; what is trained on it was trained on those.

    Raises:
        DatasetError: they are others than those that are to be trained for.
    """
    made, now = _notes(root)[1].get("made_with"), values_of(task, embodiment)
    if not isinstance(made, dict):
        raise DatasetError(
            f"{root}: does not say with what task it was made; make it anew with `physai demos`"
        )
    wrong = differences(made, now, exactly=True)
    if wrong:
        raise DatasetError(
            f"{root}: was made with something else than the task {task.path} and the robot {embodiment.path}: {'; '.join(wrong)}"
        )
    return dict(made)


def _notes(root: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        info = json.loads((root / "meta/info.json").read_text())
        extra = json.loads((root / "meta/physai.json").read_text())
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{root}: not a complete dataset ({error}); make one with `physai demos`"
        ) from error
    return info, extra


def read_episodes(root: Path, images: bool = False) -> Iterator[Episode]:
    """The episodes of a dataset, in order; images, (frames, h, w, 3) uint8, only when they are asked for.

    Raises:
        DatasetError: there is no complete dataset at `root`.
    """
    import pyarrow.parquet as pq

    info, extra = _notes(root)
    if not set(NEEDED) <= set(info["features"]):
        raise DatasetError(f"{root}: was recorded by an older physai; record it anew with `physai demos`")
    pictures = [name for name, feature in info["features"].items() if feature["dtype"] == "image"]
    for index in range(info["total_episodes"]):
        path = root / f"data/chunk-000/file-{index:03d}.parquet"
        names = [name for name in pq.read_schema(path).names if images or name not in pictures]
        table = pq.read_table(path, columns=names)
        columns = {}
        for name in names:
            if name in pictures:
                columns[name] = np.stack([from_png(entry["bytes"]) for entry in table[name].to_pylist()])
                continue
            values = table[name].to_numpy(zero_copy_only=False)
            columns[name] = np.stack(values) if values.dtype == object else values
        note = extra["episodes"][index]
        yield Episode(str(note["task"]), bool(note["success"]), str(note["kind"]), columns)


def _publish(temporary: Path, path: Path) -> None:
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.rename(path)


def _write_json(path: Path, document: dict[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(document, indent=1))
    _publish(temporary, path)
