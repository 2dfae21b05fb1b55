"""What a task is to the layers: a contract. The tasks are in `physai_tasks`, or in a package of somebody else's.

A task is read from its file with `Task.load`. The file's `task` says which definition reads it (where it has none: its `name`
if there is a definition of that name, else the default task's): the package `physai_tasks.<that>`, or whatever an installed
distribution registers under that name as an entry point of the group `physai.tasks`. Either is a function from a `Reader` to a
`Task`; in ours it is called `read`. The file `layout.yaml` beside it is what the task's name alone stands for.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from physai_base.errors import TaskError, shown
from physai_base.expert import Expert, Goal
from physai_base.outcome import Outcome, Situation, Stance
from physai_base.phrases import Phrases
from physai_base.plugins import plugins
from physai_base.reader import Reader, open_yaml
from physai_base.resources import defaults
from physai_base.workcell import Interval, Workcell

if TYPE_CHECKING:
    import mujoco

    from physai_base.embodiment import Embodiment

TASKS = "physai_tasks"  # the package of ours
GROUP = "physai.tasks"
FORMAT_VERSION = 1
LAYOUT = "layout.yaml"
ACTION = ("x", "y", "z", "opening")
TURNING = ("x", "y", "z", "yaw", "opening")  # of a task in which the hand is turned about the vertical


class Shape(str, Enum):
    """Of things of one kind; `size_m` of a kind are its extents along its own axes."""

    CYLINDER = "cylinder"  # upright, its foot is its origin
    BOX = "box"  # upright, the middle of its foot is its origin
    BOARD = "board"  # flat, the middle of its upper surface is its origin
    PATCH = "patch"  # of colour alone, on whatever it is on; its middle is its origin


@dataclass(frozen=True)
class Kind:
    """What several things are."""

    name: str
    shape: Shape
    size_m: tuple[float, float, float]
    grip_height_m: float = 0.0  # of the tool above its origin, while a hand holds it

    @property
    def grip_m(self) -> float:
        """How far apart the fingers stand that hold it."""
        return self.size_m[1]


@dataclass(frozen=True)
class Region:
    """Where the origin of something may be at the start, base frame."""

    x: Interval  # m
    y: Interval
    z_m: float = 0.0
    yaw: Interval = (0.0, 0.0)  # rad

    @staticmethod
    def read(section: Reader, z_m: float = 0.0) -> Region:
        """Of a task's file: `x` and `y`, and perhaps `yaw`."""
        yaw = section.bounds("yaw") if section.has("yaw") else (0.0, 0.0)
        return Region(section.bounds("x"), section.bounds("y"), z_m, yaw)

    @property
    def middle_m(self) -> np.ndarray:
        """(3,)"""
        return np.array([sum(self.x) / 2, sum(self.y) / 2, self.z_m])

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """(3,) somewhere in it."""
        return np.array([rng.uniform(*self.x), rng.uniform(*self.y), self.z_m])


@dataclass(frozen=True)
class Boards:
    """Boards like stairs, lowest first; they stand together and may stand anywhere in a region."""

    labels: tuple[str, ...]
    board_size_m: np.ndarray  # (3,) depth, width, thickness
    heights_m: tuple[float, ...]  # upper surfaces
    offsets_x_m: tuple[float, ...]  # of each board's centre from the middle of all, along their own x
    region_x: Interval  # m, base frame: of the middle
    region_y: Interval
    region_yaw: Interval

    @staticmethod
    def none() -> Boards:
        """For a task that has no boards."""
        return Boards((), np.zeros(3), (), (), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0))

    def region(self, label: str) -> Region:
        """Where the middle of that board's surface may be while the boards are not turned."""
        k, (x0, x1) = self.labels.index(label), self.region_x
        x = (x0 + self.offsets_x_m[k], x1 + self.offsets_x_m[k])
        return Region(x, self.region_y, self.heights_m[k], self.region_yaw)


class Rule(str, Enum):
    """How a value in use may differ from the one that a bundle was trained on."""

    SAME = "same"  # lengths by a millimetre
    WITHIN = "within"  # an interval in use lies within the one that was trained on
    AT_LEAST = "at least"  # the value in use is not below the one that was trained on


@dataclass(frozen=True)
class TrainedValue:
    """A value of a task that a bundle may have been trained on."""

    value: Any
    rule: Rule = Rule.SAME
    looks: bool = False  # it matters to those alone that look through cameras


class TaskCell(Protocol):
    """How a task's things are built in MuJoCo and put into random states. Labels name bodies, joints, geoms and sites."""

    def build(self, spec: mujoco.MjSpec) -> None:
        """Add them to a cell that has a table."""
        ...

    def reset(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        """The nominal arrangement."""
        ...

    def randomize(
        self, part: str, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator
    ) -> None:
        """Draw one of the parts that are randomized: poses, colours, masses or friction."""
        ...

    # A cell may have besides:
    # step(model, data, dt_s)       what happens by itself, every 10 ms of simulation or more often
    # measured(label, model, data)  a `Stance` of what changes its shape, None of what does not
    # harm()                        the cause of what was done since `reset` and cannot be seen any more; empty if nothing
    # free(spot_m, radius_m, data)  whether something foreign of that radius may stand at (2,) m: not where a drawer is to open


@dataclass(frozen=True)
class Task(ABC):
    """One task, as read from its file. Its things are known by labels such as "red_ball", of words that a person may say."""

    name: str
    path: Path
    workcell: Workcell
    boards: Boards  # those of the places that are boards
    upright_cosine: float  # what has its axis nearer to the vertical stands
    words: Mapping[str, tuple[str, ...]]
    """Other names of words of labels; one that ends in "?" is asked back."""
    definition: str = field(default="", kw_only=True)  # what read its file; its bundles are in models/<this>

    @staticmethod
    def load(task: str | Path = "") -> Task:
        """Read `task`: a file's path, or the name of a task that has a layout of its own; empty: the default one.

        Raises:
            TaskError: it is missing or wrong; the message names everything that is, each with its line.
        """
        return _load(task or defaults()["task"])

    @property
    @abstractmethod
    def objects(self) -> tuple[str, ...]:
        """Labels of what may be moved, in the order of features and models."""

    @property
    @abstractmethod
    def places(self) -> tuple[str, ...]:
        """Labels of where that may be put, the lowest first."""

    @property
    def goals(self) -> tuple[Goal, ...]:
        """All that it may be about: every object to every place, unless the task says otherwise."""
        return tuple(Goal(thing, place) for place in self.places for thing in self.objects)

    def needs(self, goal: Goal) -> frozenset[str]:
        """Labels of what has to be seen; of other objects it is enough to know where they were."""
        return frozenset(label for label in (goal.target, goal.destination) if label)

    def carried(self, goal: Goal) -> str:
        """The label of what the hand holds meanwhile; empty where it holds nothing."""
        held = goal.target in self.objects and self.kind(goal.target).grip_height_m > 0
        return goal.target if held else ""

    def possible(self, goal: Goal, now: Situation) -> bool:
        """Whether that can be asked for as things are."""
        return True

    def order(self, goal: Goal) -> str:
        """How one says that plainly: what a person is asked back with, and a policy that reads is told."""
        return self.phrases.said(goal.target, goal.destination)

    @property
    def phrases(self) -> Phrases:
        """What it is asked for with, from its `words.py`; as it is, requests to put something somewhere."""
        return Phrases()

    @property
    def instructions(self) -> tuple[tuple[str, Goal], ...]:
        """What may be asked for and what is meant by it, for evaluation and demo; plain where the task has no other words."""
        return tuple((self.order(goal), goal) for goal in self.goals)

    def asked(self, index: int, now: Situation) -> tuple[str, Goal]:
        """One of the `instructions` in turn, of those that are possible as things are."""
        possible = [(text, goal) for text, goal in self.instructions if self.possible(goal, now)]
        return possible[index % len(possible)]

    @property
    def reaches(self) -> float:
        """The share of random cells in which its shipped policy is to succeed, at least."""
        return 0.9

    @property
    def turn_matters(self) -> bool:
        """Whether it matters how the hand is turned about the tool's axis; where not, arms of five joints may do it."""
        return True

    @property
    def press_n(self) -> Interval | None:
        """Between which forces something is to be pressed, N; None where that is no part of the task."""
        return None

    @property
    @abstractmethod
    def cell(self) -> TaskCell:
        """How it is built in MuJoCo."""

    @abstractmethod
    def kind(self, label: str) -> Kind:
        """What the thing of that label is."""

    @abstractmethod
    def region(self, label: str) -> Region:
        """Where the thing of that label may be at the start."""

    @property
    def heights_m(self) -> np.ndarray:
        """(k,) of the objects, above their origins."""
        return np.array([self.kind(label).size_m[2] for label in self.objects])

    @property
    def grip_m(self) -> float:
        """How far apart the fingers stand that hold an object; of the first one, where they differ."""
        return self.kind(self.objects[0]).grip_m if self.objects else 0.0

    @property
    def supports_m(self) -> tuple[float, ...]:
        """Heights on which things may stand."""
        return (0.0, *self.boards.heights_m)

    @abstractmethod
    def expert(self, embodiment: Embodiment) -> Expert:
        """Who demonstrates it with that robot."""

    @abstractmethod
    def feature_names(self) -> tuple[str, ...]:
        """Names of the entries of `features`, in order."""

    @property
    def action(self) -> tuple[str, ...]:
        """Columns of a chunk's setpoints: of the tool in m, and rad of a `yaw`, in the base frame; last the gripper's opening."""
        return ACTION

    @abstractmethod
    def features(self, now: Situation, goal: Goal) -> np.ndarray:
        """What a policy sees (F,) float32, lengths in metres.

        Raises:
            MissingObjectError: something that it needs is not believed to be there.
        """

    @abstractmethod
    def outcome(self, goal: Goal, now: Situation, start: Mapping[str, Stance] | None = None) -> Outcome:
        """What has come of `goal`, by truth and by perception alike.

        `start` says how things were when it began; of those that it leaves out, no harm can be told.
        """

    @abstractmethod
    def trained_values(self) -> Mapping[str, TrainedValue]:
        """What a bundle may have been trained on, by the names in its manifest."""


def load_tasks(names: str) -> tuple[Task, ...]:
    """The tasks of a stack, by commas; empty: the default one.

    Raises:
        TaskError: one is wrong, or two have one name: nobody could say which is meant.
    """
    tasks = tuple(Task.load(name.strip()) for name in names.split(","))
    twice = sorted({task.name for task in tasks if [other.name for other in tasks].count(task.name) > 1})
    if twice:
        raise TaskError(
            f"{names}: {', '.join(twice)} is there twice; give each task once, and each a name of its own"
        )
    return tasks


def wrong_task(task: str, loaded: Iterable[str]) -> str:
    """Why a scene of that task is of no use to who has loaded these."""
    said = f"is of the task {task}" if task else "does not say of which task it is"
    return f"it {said}; loaded here: {', '.join(loaded)}"


def _load(task: str | Path) -> Task:
    path = Path(task)
    if path.suffix not in (".yaml", ".yml"):
        layouts = {
            name: layout for name, where in definitions().items() if (layout := where.layout).is_file()
        }
        if str(task) not in layouts:
            known = ", ".join(sorted(layouts)) or "none"
            raise TaskError(
                f"there is no task {str(task)!r}; known: {known}. Give one of them or a file ending in .yaml"
            )
        path = layouts[str(task)]
    file = open_yaml(path, TaskError)
    version = file.anything("format_version")
    if file.good("format_version") and version != FORMAT_VERSION:
        file.fail("format_version", f"must be {FORMAT_VERSION}, got {shown(version)}")
    found = definitions()
    name = file.text("name")
    task_of = file.choice("task", tuple(found), name if name in found else defaults()["task"])
    parsed = found[task_of](file)
    file.finish()
    return replace(parsed, definition=task_of)


def definitions() -> dict[str, Definition]:
    """Whatever can read a task's file, by name; each is loaded when it reads.

    Raises:
        TaskError: two have one name; nobody could say which is meant.
    """
    ours = [m.name for m in pkgutil.iter_modules(importlib.import_module(TASKS).__path__) if m.ispkg]
    theirs = plugins(GROUP, {name: f"{TASKS}.{name}, which is shipped," for name in ours}, TaskError)
    return {
        **{name: _Ours(name) for name in ours},
        **{name: _Theirs(entry) for name, entry in theirs.items()},
    }


class Definition(Protocol):
    """What reads a task's file."""

    @property
    def layout(self) -> Path:
        """The file of whoever gives the task's name alone; there may be none."""

    def __call__(self, file: Reader) -> Task:
        """The task of that file; what is wrong is noted there."""


@dataclass(frozen=True)
class _Ours:
    name: str

    @property
    def layout(self) -> Path:
        return _beside(f"{TASKS}.{self.name}")

    def __call__(self, file: Reader) -> Task:
        return importlib.import_module(f"{TASKS}.{self.name}").read(file)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _Theirs:
    entry: EntryPoint

    @property
    def layout(self) -> Path:
        return _beside(self.entry.module)

    def __call__(self, file: Reader) -> Task:
        return self.entry.load()(file)  # type: ignore[no-any-return]


def _beside(module: str) -> Path:
    """`layout.yaml` in the folder of a module, which is not run for it."""
    try:
        found = importlib.util.find_spec(module)
    except ImportError:
        found = None
    origin = found.origin if found is not None else None
    return Path(origin).parent / LAYOUT if origin else Path(LAYOUT)


def installed() -> Iterator[Task]:
    """Every task that can be loaded by its name; one that cannot be read is left out, whatever is wrong with it."""
    for name, definition in definitions().items():
        with suppress(Exception):  # it may be somebody else's
            if definition.layout.is_file():
                yield _load(name)


def read_words(words: Reader, labels: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """A task file's other names for words of its labels."""
    known = dict.fromkeys(part for label in labels for part in label.split("_"))
    return {word: words.texts(word) for word in known if words.has(word)}


def read_labels(section: Reader) -> tuple[str, ...]:
    """The `labels` of a section, at least one."""
    labels = section.texts("labels")
    if section.good("labels") and not labels:
        section.fail("labels", "must name at least one")
    return labels


def workcell_values(cell: Workcell) -> dict[str, TrainedValue]:
    """What a bundle may have been trained on of what every task happens in."""
    low, high = cell.workspace_min, cell.workspace_max
    markers = {str(number): centre for number, centre in sorted(cell.markers.centers.items())}
    return {
        **{f"workspace.{axis}": TrainedValue((low[k], high[k]), Rule.WITHIN) for k, axis in enumerate("xyz")},
        "table.x": TrainedValue(cell.table_x, looks=True),
        "table.y": TrainedValue(cell.table_y, looks=True),
        "markers.dictionary": TrainedValue(cell.markers.dictionary, looks=True),
        "markers.size_m": TrainedValue(cell.markers.size_m, looks=True),
        "markers.centers": TrainedValue(markers, looks=True),
    }
