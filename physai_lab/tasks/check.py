"""`physai task check`: what of a task does not hold together, and in which of its files."""

from __future__ import annotations

import json
import math
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.errors import MissingObjectError, PhysaiError, TaskError
from physai_base.expert import HORIZON, Expert, Goal
from physai_base.outcome import NO_SUCH_GOAL, Outcome, Situation
from physai_base.task import ACTION, TURNING, Shape, Task
from physai_base.trained_on import as_json, task_values
from physai_lab.evaluation.cell import Cell
from physai_lab.robots.remark import DOUBTFUL, NOTE, WRONG, Remark
from physai_lab.tasks.trial import TIMEOUT_S, demonstrate
from physai_perception.errors import PerceptionError
from physai_perception.perception import ScenePerception
from physai_policy.language import InstructionGrounder
from physai_policy.policy import space_of_actions
from physai_policy.reach import check_reach
from physai_sim.scene import RANDOMIZABLE, Scene

CELLS = 20  # random ones that are looked at
SETTLED = 4  # of them that are left to themselves for a moment
FIRST_SEED = 900_000  # below those of demonstrations
SETTLES_M = 0.01  # so far a thing may go meanwhile
EDGE_M = 0.01  # beyond its region, where a thing may be put
TOOL_STEP_M = np.array([0.004, 0.003, 0.002])  # to see which features go by the tool
FORESEEN = ("tcp", "tcp_velocity")  # vectors that the networks take by name, besides `gripper.width`
LOOKS, IMAGES = 4, 3  # random cells that the camera looks at, and how often at each
SEEN_M = 0.008  # of where a thing is seen, from where it is
STARTS_M = 0.002  # of a plan's first setpoint, from the tool

Part = Callable[[Task, Embodiment], Iterator[Remark]]


def findings(task: Task, embodiment: Embodiment, episodes: int = 4) -> Iterator[Remark]:
    """Everything that is found; if nothing is wrong, what comes of the expert's trying it `episodes` times."""
    if not task.goals:
        yield Remark(NOTE, "task.py", "there is nothing to ask for")
        return
    parts: list[Part] = [_things, _reach, _cells, _outcomes, _features, _expert, _language, _values, _sight]
    wrong = False
    for part in parts:
        for remark in _guarded(part, task, embodiment):
            wrong = wrong or remark.level == WRONG
            yield remark
        if wrong and part is _things:
            return  # the rest would say it again in other words
    if wrong:
        yield Remark(NOTE, "expert.py", "it has not tried yet: first what is wrong")
    elif episodes:
        yield from _guarded(partial(_tries, episodes=episodes), task, embodiment)


def _guarded(part: Part, task: Task, embodiment: Embodiment) -> Iterator[Remark]:
    """What a part finds, and whatever the task's own code raises there."""
    try:
        yield from part(task, embodiment)
    except Exception as error:  # it is anybody's code
        folder = task.path.parent
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if Path(frame.filename).parent == folder] or frames
        what = str(error) if isinstance(error, PhysaiError) else f"{type(error).__name__}: {error}"
        yield Remark(WRONG, f"{Path(own[-1].filename).name}:{own[-1].lineno}", what)


# What is there ------------------------------------------------------------------------------------------------


def _things(task: Task, embodiment: Embodiment) -> Iterator[Remark]:
    """Labels, kinds, regions and goals against each other."""
    labels = (*task.objects, *task.places)
    if not task.objects:
        yield Remark(WRONG, "task.py", "`objects` is empty: at least one thing may be moved")
    for label, times in Counter(labels).items():
        if times > 1:
            yield Remark(WRONG, "task.py", f"{label} is named twice, among `objects` and `places`")
    for goal in task.goals:
        strange = [label for label in (goal.target, goal.destination) if label and label not in labels]
        if strange:
            yield Remark(
                WRONG, "task.py", f"a goal is about {strange[0]!r}, which is none of {', '.join(labels)}"
            )
    if task.action not in (ACTION, TURNING):
        yield Remark(WRONG, "task.py", f"`action` is {task.action}; policies act by {ACTION} or {TURNING}")
    for label in dict.fromkeys(labels):
        yield from _thing(task, embodiment, label)


def _thing(task: Task, embodiment: Embodiment, label: str) -> Iterator[Remark]:
    kind, region, cell = task.kind(label), task.region(label), task.workcell
    flat = kind.shape in (Shape.PATCH, Shape.BOARD)
    if not all(size > 0 for size in kind.size_m[: 2 if flat else 3]):
        yield Remark(WRONG, "task.py", f"kind({label!r}): its size {kind.size_m} m is not above 0")
    for axis, span, low, high in zip(
        "xy", (region.x, region.y), cell.workspace_min, cell.workspace_max, strict=False
    ):
        if span[0] < low or span[1] > high:
            yield Remark(
                WRONG, task.path.name,
                f"region of {label}: {axis} goes from {span[0]:g} to {span[1]:g} m, and the workspace from {low:g} to {high:g}",
            )  # fmt: skip
    widest = embodiment.gripper.opening_max
    if kind.grip_height_m > 0 and embodiment.gripper.kind == "parallel" and kind.grip_m >= widest:
        yield Remark(
            WRONG,
            task.path.name,
            f"{label} is {kind.grip_m:g} m wide, and the hand of {embodiment.name} opens to {widest:g} m",
        )


def _reach(task: Task, embodiment: Embodiment) -> Iterator[Remark]:
    """Whether the arm gets there, and feels what it has to."""
    try:
        text = check_reach(f"of task {task.name}", space_of_actions(task.action), embodiment, task)
    except PhysaiError as error:
        yield Remark(WRONG, task.path.name, str(error))
        return
    if text:
        yield Remark(DOUBTFUL, task.path.name, text)


def _cells(task: Task, embodiment: Embodiment) -> Iterator[Remark]:
    """Random cells: drawn by the seed alone, things within their regions, and at rest."""
    labels, said = (*task.objects, *task.places), set[str]()
    with _cell(task, embodiment) as cell:
        for seed in range(FIRST_SEED, FIRST_SEED + CELLS):
            first, again = (_drawn(cell.scene, seed, labels) for _ in range(2))
            if not all(np.array_equal(first[label], again[label]) for label in labels):
                yield Remark(
                    WRONG,
                    "cell.py",
                    "the same seed gives another cell: `randomize` draws from `rng` alone, `reset` puts all back",
                )
                return
            for label in labels:
                region, (x, y, _) = task.region(label), first[label]
                off = max(
                    region.x[0] - x, x - region.x[1], region.y[0] - y, y - region.y[1]
                )  # m beyond its edge
                if off > EDGE_M and label not in said:
                    said.add(label)
                    yield Remark(
                        DOUBTFUL, "cell.py",
                        f"{label} is put at ({x:.3f}, {y:.3f}) m, {off * 1e3:.0f} mm outside of its region, by which reach and "
                        "`trained_values` go",
                    )  # fmt: skip
            if seed < FIRST_SEED + SETTLED:
                cell.randomize(seed, RANDOMIZABLE)
                for label in labels:
                    gone = float(np.linalg.norm(cell.scene.position(label) - first[label]))
                    if gone > SETTLES_M and label not in said:
                        said.add(label)
                        yield Remark(
                            WRONG, "cell.py",
                            f"{label} goes {gone * 1e3:.0f} mm by itself within 0.6 s: it falls, rolls, or is put into something",
                        )  # fmt: skip


def _drawn(scene: Scene, seed: int, labels: tuple[str, ...]) -> dict[str, np.ndarray]:
    scene.randomize(seed, RANDOMIZABLE)
    return {label: scene.position(label) for label in labels}


class _cell:
    """A cell with truth for sight, closed at the end."""

    def __init__(self, task: Task, embodiment: Embodiment, sight: str = "truth") -> None:
        self._cell = Cell(embodiment, task, sight=sight)

    def __enter__(self) -> Cell:
        return self._cell

    def __exit__(self, *_: object) -> None:
        self._cell.close()


def _starts(task: Task, embodiment: Embodiment) -> Iterator[tuple[Goal, Situation]]:
    """Every goal in every random cell in which it is possible."""
    scene = Scene.build(embodiment, task)
    for seed in range(FIRST_SEED, FIRST_SEED + CELLS):
        scene.randomize(seed, RANDOMIZABLE)
        now = scene.situation()
        for goal in task.goals:
            if task.possible(goal, now):
                yield goal, now


def _each(task: Task, embodiment: Embodiment) -> dict[Goal, Situation]:
    """Of each goal a random cell in which it is possible."""
    return dict(_starts(task, embodiment))


def _without(now: Situation, label: str) -> Situation:
    return replace(now, things={name: stance for name, stance in now.things.items() if name != label})


# What is made of it -------------------------------------------------------------------------------------------


def _outcomes(task: Task, embodiment: Embodiment) -> Iterator[Remark]:
    """Nothing is done at the start, unseen, or of somebody else's; and nothing raises."""
    starts = list(_starts(task, embodiment))
    for goal in task.goals:
        if goal not in dict(starts):
            yield Remark(DOUBTFUL, "task.py", f"{goal} was possible in none of {CELLS} random cells")
    done = [goal for goal, now in starts if task.outcome(goal, now, now.things).success]
    if done:
        yield Remark(
            WRONG,
            "outcome.py",
            f"{done[0]} is done in {done.count(done[0])} of {CELLS} random cells before anything has happened",
        )
    goal, now = starts[0]
    for what, found in (
        ("nothing is seen", task.outcome(goal, replace(now, things={}))),
        ("it is not known how it began", task.outcome(goal, now, None)),
        *(
            (f"{label} is not seen", task.outcome(goal, _without(now, label), now.things))
            for label in task.needs(goal)
        ),
    ):
        if not isinstance(found, Outcome) or found.success:
            yield Remark(WRONG, "outcome.py", f"where {what}, {goal} must not be done; it is {found!r}")
    if task.outcome(Goal("nothing", "nowhere"), now).cause != NO_SUCH_GOAL:
        yield Remark(
            WRONG,
            "outcome.py",
            "a goal of things that are none of the task's must be `Outcome(NO_SUCH_GOAL)`",
        )


def _features(task: Task, embodiment: Embodiment) -> Iterator[Remark]:
    """Names fit what they name; what networks foresee by its name goes by the tool."""
    names = task.feature_names()
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        yield Remark(WRONG, "features.py", f"`feature_names` has {twice[0]!r} twice")
    for name in [*(f"{vector}.{axis}" for vector in FORESEEN for axis in "xyz"), "gripper.width"]:
        if name not in names:
            yield Remark(
                WRONG,
                "features.py",
                f"{name!r} is missing, by which the networks foresee where the arm will be",
            )
    for goal, now in _each(task, embodiment).items():
        row = task.features(now, goal)
        if row.shape != (len(names),) or row.dtype != np.float32:
            yield Remark(
                WRONG,
                "features.py",
                f"`features` is {row.dtype} {row.shape}, and `feature_names` names ({len(names)},) of float32",
            )
            return
        if not np.isfinite(row).all():
            yield Remark(
                WRONG,
                "features.py",
                f"{names[int(np.argmin(np.isfinite(row)))]!r} is not finite in a random cell",
            )
            return
        yield from _needed(task, goal, now)
    moved = replace(now, tool=replace(now.tool, position_m=now.tool_m + TOOL_STEP_M))
    change = dict(zip(names, task.features(moved, goal) - row, strict=True))
    for name in names:
        vector, _, axis = name.rpartition(".")
        if axis not in ("x", "y", "z") or not (vector == "tcp" or vector.endswith("_from_tcp")):
            continue
        expected = TOOL_STEP_M["xyz".index(axis)] * (1 if vector == "tcp" else -1)
        if abs(change[name] - expected) > 1e-4:
            yield Remark(
                WRONG, "features.py",
                f"{name!r} changes by {change[name] * 1e3:.1f} mm while the tool goes {abs(expected) * 1e3:.0f} mm; what is called so "
                f"is foreseen to change by {expected * 1e3:.0f}: a place minus the tool's, or else call it otherwise",
            )  # fmt: skip


def _needed(task: Task, goal: Goal, now: Situation) -> Iterator[Remark]:
    for label in task.needs(goal):
        try:
            task.features(_without(now, label), goal)
        except MissingObjectError:
            continue
        except Exception as error:  # anybody's code
            yield Remark(
                WRONG,
                "features.py",
                f"without {label} it raises {type(error).__name__}: take things by `now.require`",
            )
        else:
            yield Remark(DOUBTFUL, "features.py", f"{label} is needed for {goal}, and nothing is seen of it")


def _expert(task: Task, embodiment: Embodiment) -> Iterator[Remark]:
    """Its plans: their shape, where they begin, and whether the hand can do it."""
    expert, columns = task.expert(embodiment), len(task.action)
    least, most = embodiment.gripper.opening_min, embodiment.gripper.opening_max
    low, high = expert.openings
    if not least - 1e-6 <= low <= high <= most + 1e-6:
        yield Remark(
            WRONG,
            "expert.py",
            f"`openings` ({low:g}, {high:g}) are not within ({least:g}, {most:g}) of {embodiment.name}'s hand",
        )
    for goal, now in _each(task, embodiment).items():
        plan = np.asarray(expert.plan(expert.state(now, goal)))
        if plan.shape != (HORIZON, columns) or not np.isfinite(plan).all():
            yield Remark(
                WRONG,
                "expert.py",
                f"a plan is {plan.shape}, finite: {bool(np.isfinite(plan).all())}; it must be ({HORIZON}, {columns}), finite",
            )
            return
        off = float(np.linalg.norm(plan[0, :3] - now.tool_m))
        if off > STARTS_M:
            yield Remark(
                WRONG,
                "expert.py",
                f"a plan begins {off * 1e3:.0f} mm from the tool; its first row is where the tool is now",
            )
            return
        yield from _without_needed(task, expert, goal, now)


def _without_needed(task: Task, expert: Expert, goal: Goal, now: Situation) -> Iterator[Remark]:
    for label in task.needs(goal):
        try:
            expert.state(_without(now, label), goal)
        except MissingObjectError:
            continue
        except Exception as error:  # anybody's code
            yield Remark(
                WRONG,
                "expert.py",
                f"`state` without {label} raises {type(error).__name__}: take things by `now.require`",
            )


def _language(task: Task, embodiment: Embodiment) -> Iterator[Remark]:
    """Every goal is understood as it is said, and every sentence for evaluation as it is meant."""
    try:
        grounder = InstructionGrounder(task)
    except TaskError as error:
        yield Remark(WRONG, "words.py", str(error))
        return
    for text, goal in dict.fromkeys([*((task.order(goal), goal) for goal in task.goals), *task.instructions]):
        found = grounder.ground(text)
        if not found.accepted:
            yield Remark(WRONG, "words.py", f"{text!r} is not carried out at once: {found.message}")
        elif (found.target, found.destination) != (goal.target, goal.destination):
            yield Remark(
                WRONG,
                "words.py",
                f"{text!r} is understood as {Goal(found.target or '', found.destination or '')}, and means {goal}",
            )


def _values(task: Task, embodiment: Embodiment) -> Iterator[Remark]:
    """What a policy is trained on goes into a file."""
    values = as_json(task_values(task))
    try:
        json.dumps(values, allow_nan=False)
    except (TypeError, ValueError) as error:
        yield Remark(WRONG, "task.py", f"`trained_values` cannot be written into a bundle: {error}")
    if not any(str(label) in json.dumps(values, default=str) for label in task.objects):
        yield Remark(
            DOUBTFUL,
            "task.py",
            "`trained_values` names none of the objects: a policy of other things would be taken for fitting",
        )


# What is seen and done ----------------------------------------------------------------------------------------


def _sight(task: Task, embodiment: Embodiment) -> Iterator[Remark]:
    """What the camera sees of the cell as it is at the start."""
    try:
        ScenePerception(embodiment, task)
    except PerceptionError as error:
        yield Remark(WRONG, task.path.name, f"perception: {error}")
        return
    labels = (*task.objects, *task.places)
    found, worst = Counter[str](), dict.fromkeys(labels, 0.0)
    with _cell(task, embodiment, "camera") as cell:
        for seed in range(FIRST_SEED, FIRST_SEED + LOOKS):
            cell.randomize(seed, ("poses",))
            try:
                seen = _seen(cell)
            except PerceptionError as error:
                yield Remark(WRONG, task.path.name, f"perception refuses images of the cell: {error}")
                return
            truth = cell.situation()
            for label in set(labels) & set(seen.things):
                off = float(np.linalg.norm(seen.things[label].position_m - truth.things[label].position_m))
                found[label], worst[label] = found[label] + 1, max(worst[label], off)
    for label in labels:
        if found[label] < LOOKS:
            yield Remark(
                DOUBTFUL if found[label] else WRONG, "cell.py",
                f"the camera finds {label} in {found[label]} of {LOOKS} random cells: is it of its label's colour, of its kind's "
                "shape and size, in view and not hidden?",
            )  # fmt: skip
        if worst[label] > SEEN_M:
            yield Remark(
                DOUBTFUL,
                "cell.py",
                f"{label} is seen {worst[label] * 1e3:.0f} mm from its site: is that its kind's origin?",
            )
    yield Remark(NOTE, "cell.py", f"seen by the camera, at most {max(worst.values()) * 1e3:.1f} mm off")


def _seen(cell: Cell) -> Situation:
    """What perception makes of a few images."""
    assert cell.perception is not None
    for _ in range(IMAGES):
        scene = cell.perception.observe(cell.photograph(cell.camera.name))
        cell.plant.run(round(1000 / cell.camera.rate_hz))
        cell.perception.add_joint_state(cell.joint_state())
    return Situation.perceived(scene)


def _tries(task: Task, embodiment: Embodiment, episodes: int) -> Iterator[Remark]:
    """The expert in random cells."""
    results = demonstrate(task, embodiment, range(FIRST_SEED, FIRST_SEED + episodes))
    causes = Counter(result.failure for result in results if not result.success)
    for cause, times in causes.most_common():
        level = WRONG if sum(causes.values()) == episodes else DOUBTFUL
        yield Remark(level, "expert.py", f"in {times} of {episodes} random cells: {cause}")
    worked = [result.duration_s for result in results if result.success]
    unseen = sum(duration >= TIMEOUT_S for duration in worked)
    if unseen:
        yield Remark(
            WRONG,
            "outcome.py",
            f"in {unseen} of {episodes} random cells it was done, and nobody noticed: by what is seen it must be, too (velocities "
            "and places have noise, and how something round is turned about its axis is not seen)",
        )
    if worked:
        median = sorted(worked)[math.floor(len(worked) / 2)]
        yield Remark(
            NOTE, "expert.py", f"did it in {len(worked)} of {episodes} random cells, in {median:.1f} s"
        )


def check_command(name: str, robot: str, episodes: int) -> int:
    """Print what is found; 1 where something is wrong."""
    task, embodiment = Task.load(name), Embodiment.load(robot)
    example = f", e.g. {task.order(task.goals[0])!r}" if task.goals else ""
    print(f"{task.name}: {task.path}\n  goals: {len(task.goals)}{example}")
    counts = {WRONG: 0, DOUBTFUL: 0, NOTE: 0}
    for remark in findings(task, embodiment, episodes):
        counts[remark.level] += 1
        print(f"  {remark}", flush=True)
    print(f"{task.name}: {counts[WRONG]} wrong, {counts[DOUBTFUL]} doubtful, {counts[NOTE]} notes")
    return 1 if counts[WRONG] else 0
