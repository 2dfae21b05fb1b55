"""What the world model foresees of the harm that chunks cause, beside the cheapest alternatives.

python test/bench/bench_foresight.py [--bundle models/cups/world_model] [--episodes 40]

Play: aimless chunks among the cups, each carried out to its end (0.9 s between two), in cells that neither training nor the
docs' other figures have seen. A window is one cup over 0.8 s from the scene that a chunk was judged on, and counts if the cup
then stood upright and still. Harm: it is pushed by more than 25 mm or falls, by the simulator's truth. Every cup is a
bystander here. The rules warn when the path comes near a cup; "twin" is MuJoCo itself, started from the cell's own state with
the cups where perception has them, a plain joint controller following the chunk; it knows the true masses and friction.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path

import mujoco
import numpy as np

from physai_base.bundle import Bundle
from physai_base.embodiment import Embodiment
from physai_base.expert import Goal
from physai_base.task import Task
from physai_base.values import ActionChunk, ChunkVerdict, SceneState, WorldPrediction
from physai_lab.data.demos import PlayPolicy
from physai_lab.evaluation.cell import Cell
from physai_lab.evaluation.foresight import HARM_M, Foresight, near
from physai_lab.progress import progress_bar
from physai_lab.report import Report, host, new_run_folder
from physai_policy.agent import AgentSettings
from physai_sim.scene import RANDOMIZABLE
from physai_world_model.judge import Judge
from physai_world_model.model import WorldModel, touchable

FIRST_SEED = 7_700_000
WINDOW_S, EPISODE_S, STILL_M_S = 0.8, 12.0, 0.01
RULES_M = (0.05, 0.06, 0.07, 0.08, 0.10)


class Watch:
    """Keeps where every cup was, and how upright, in each piece of simulated time."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self.stamps_ns: list[int] = []
        self.cups: list[np.ndarray] = []  # (k, 4): position, cosine to the vertical
        self.tool: list[np.ndarray] = []

    def apply(self) -> None:
        """Called by the cell."""
        scene = self._cell.scene
        self.stamps_ns.append(self._cell.now_ns)
        self.tool.append(scene.data.site(self._cell.embodiment.tool_frame).xpos.copy())
        self.cups.append(
            np.array([[*scene.position(label), scene.upright(label)] for label in self._cell.task.objects])
        )


class Twin:
    """The perceived cell as a MuJoCo simulation of its own, rolled out along one chunk."""

    STIFFNESS = np.array([600, 600, 600, 600, 250, 150, 50.0])  # Nm/rad

    def __init__(self, cell: Cell) -> None:
        self._cell, self.model = cell, cell.scene.model
        self._data = mujoco.MjData(self.model)
        robot = cell.embodiment
        self._q = np.array([self.model.joint(name).qposadr[0] for name in robot.joint_names])
        self._v = np.array([self.model.joint(name).dofadr[0] for name in robot.joint_names])
        self._fingers = [
            (self.model.joint(n).qposadr[0], self.model.joint(n).dofadr[0]) for n in robot.gripper.joints
        ]

    def harm(self, chunk: ActionChunk, scene: SceneState) -> np.ndarray:
        """Which cups (k,) are pushed or fall within the window."""
        labels, data, model = self._cell.task.objects, self._data, self.model
        mujoco.mj_copyData(data, model, self._cell.scene.data)
        for label in labels:
            seen, joint = scene.find(label), data.joint(label)
            if seen is not None:
                joint.qpos[:2] += seen.position_m[:2] - self._cell.scene.position(label)[:2]
            joint.qvel[:] = 0
        knots = chunk.start_ns + np.arange(chunk.horizon) * chunk.dt_ns
        count = round(WINDOW_S / model.opt.timestep)
        times = scene.stamp_ns + np.arange(count + 1) * model.opt.timestep * 1e9
        path = np.column_stack([np.interp(times, knots, column) for column in chunk.values.T])
        width = np.interp(times, knots, chunk.openings[:, 0])
        lag = data.qpos[self._q] - path[0]  # dies away as the controller blends into a chunk
        speed = np.gradient(path, model.opt.timestep, axis=0)
        mujoco.mj_forward(model, data)
        start = np.array([data.site(label).xpos for label in labels])
        moved, cosine, mass = np.zeros(len(labels)), np.ones(len(labels)), np.zeros((model.nv, model.nv))
        for k in range(count):
            if k % 20 == 0:
                mujoco.mj_fullM(model, mass, data.qM)
                damping = 2 * np.sqrt(self.STIFFNESS * np.maximum(mass[self._v, self._v], 0.05))
                places = np.array([data.site(label).xpos for label in labels])
                moved = np.maximum(moved, np.linalg.norm(places - start, axis=1))
                cosine = np.minimum(cosine, [data.site(label).xmat[8] for label in labels])
            wanted = path[k] + lag * np.exp(-k * model.opt.timestep / 0.06)
            data.qfrc_applied[self._v] = (
                self.STIFFNESS * (wanted - data.qpos[self._q])
                + damping * (speed[k] - data.qvel[self._v])
                + data.qfrc_bias[self._v]
            )
            for q, v in self._fingers:
                data.qfrc_applied[v] = np.clip(
                    2000 * (width[k] / 2 - data.qpos[q]) - 40 * data.qvel[v], -30, 30
                )
            mujoco.mj_step(model, data)
        return (moved > HARM_M) | (cosine < self._cell.task.upright_cosine)


@dataclass
class Judged:
    """One chunk: who warned of which cups (k,), and the cups that stood unharmed when it was judged."""

    stamp_ns: int
    alarms: dict[str, np.ndarray]
    counts: np.ndarray
    setpoint_m: np.ndarray  # (H, 3)
    imagined_m: np.ndarray  # (H, 3)


class Spy:
    """A judge that lets everything pass and notes who would have warned."""

    def __init__(self, cell: Cell, model: WorldModel) -> None:
        self._cell, self._model = cell, model
        self._judge, self._twin = Judge(cell.embodiment, cell.task, model), Twin(cell)
        self.judged: list[Judged] = []
        self.spent_s: dict[str, float] = {}

    def judge(
        self, chunk: ActionChunk, scene: SceneState, target: str | None, now_ns: int
    ) -> tuple[ChunkVerdict, WorldPrediction | None]:
        """Without a target: every cup is a bystander."""
        verdict, prediction = self._judge.judge(chunk, scene, None, now_ns)
        if prediction is not None:
            self.judged.append(self._note(chunk, scene, prediction))
        return replace(verdict, allow=True), prediction

    def _note(self, chunk: ActionChunk, scene: SceneState, prediction: WorldPrediction) -> Judged:
        cell, task, model = self._cell, self._cell.task, self._model
        cups = np.array([thing.position_m for label in task.objects if (thing := scene.find(label))])
        boards = np.array([thing.position_m for label in task.places if (thing := scene.find(label))])
        path = self._judge._tool_path(chunk, scene)
        assert path is not None
        setpoints = self._judge._setpoints(chunk, path, scene)
        velocity = cell.kinematics.jacobian(scene.joint_position)[:3] @ scene.joint_velocity
        began = time.process_time()
        imagined = model.imagine(scene.tool.position_m, velocity, scene.tool.opening, cups, boards, setpoints)
        moved, fallen = imagined.disturbance(cups)
        learned = (moved > model.knock_displacement_m) | (fallen > model.topple_probability)
        between = time.process_time()
        twin = self._twin.harm(chunk, scene)
        self._spend("learned model (shipped)", between - began)
        self._spend("twin: MuJoCo, true masses and friction", time.process_time() - between)
        whole = np.vstack([scene.tool.position_m, setpoints[:, :3]])
        alarms = {
            "learned model (shipped)": learned
            & touchable(setpoints, cups, self._cell.embodiment.end_effectors[0].hand.reach),
            **{f"rule: path within {d * 1e2:.0f} cm": near(whole, cups, task.heights_m, d) for d in RULES_M},
            "twin: MuJoCo, true masses and friction": twin,
        }
        unharmed = np.array(
            [
                cell.scene.upright(label) > task.upright_cosine and cell.scene.speed(label) < STILL_M_S
                for label in task.objects
            ]
        )
        return Judged(scene.stamp_ns, alarms, unharmed, setpoints[:, :3], prediction.tcp_position_m)

    def _spend(self, name: str, seconds: float) -> None:
        self.spent_s[name] = self.spent_s.get(name, 0.0) + seconds


def windows_of(spy: Spy, watch: Watch, upright: float) -> list[tuple[Judged, np.ndarray, np.ndarray]]:
    """Each judged chunk whose window was seen whole, with the cups (k,) that were harmed and the tool's path (H, 3)."""
    stamps, cups, tool = np.array(watch.stamps_ns), np.array(watch.cups), np.array(watch.tool)
    found = []
    for judged in spy.judged:
        a, b = np.searchsorted(stamps, [judged.stamp_ns, judged.stamp_ns + WINDOW_S * 1e9])
        if b >= len(stamps):
            continue
        moved = np.linalg.norm(cups[a:b, :, :3] - cups[a, :, :3], axis=-1).max(axis=0)
        steps = np.searchsorted(
            stamps, judged.stamp_ns + 50_000_000 * np.arange(1, len(judged.setpoint_m) + 1)
        )
        found.append(
            (judged, (moved > HARM_M) | (cups[a:b, :, 3].min(axis=0) < upright), tool[np.minimum(steps, b)])
        )
    return found


def main() -> None:
    """Run the episodes and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", default="cups/world_model")
    parser.add_argument("--episodes", type=int, default=40)
    parser.add_argument("--seed", type=int, default=FIRST_SEED)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options = parser.parse_args()
    robot, task = Embodiment.load("fr3"), Task.load("cups")
    model = WorldModel(Bundle.open(options.bundle, kind="world_model", robot=robot.name), task)
    cell = Cell(robot, task, sight="truth")
    windows: list[tuple[Judged, np.ndarray, np.ndarray]] = []
    spent_s: dict[str, float] = {}
    judged = 0
    with progress_bar("play") as progress:
        for episode in range(options.episodes):
            seed = options.seed + episode
            cell.randomize(seed, RANDOMIZABLE)
            watch, spy = Watch(cell), Spy(cell, model)
            cell.disturbance = watch
            settings = AgentSettings(timeout_s=EPISODE_S, handover="off", replan_period_s=0.9)
            policy = PlayPolicy(cell, np.random.default_rng(seed))
            cell.run(policy, Goal(task.objects[0], task.places[0]), "", seed, spy, settings)  # type: ignore[arg-type]
            windows += windows_of(spy, watch, task.upright_cosine)
            judged += len(spy.judged)
            for name, seconds in spy.spent_s.items():
                spent_s[name] = spent_s.get(name, 0.0) + seconds
            progress(episode + 1, options.episodes, f"{len(windows)} chunks")
    cell.close()
    harmed = np.array([harm for _, harm, _ in windows])
    counts = np.array([entry.counts for entry, _, _ in windows])
    found = {
        name: Foresight.of(np.array([entry.alarms[name] for entry, _, _ in windows]), harmed, counts)
        for name in windows[0][0].alarms
    }
    errors = {
        "learned model (shipped)": np.array([e.imagined_m[:16] - tool for e, _, tool in windows]),
        "the setpoint": np.array([e.setpoint_m - tool for e, _, tool in windows]),
    }
    ahead = {
        name: {
            f"{(k + 1) * 0.05:g} s": float(np.linalg.norm(d[:, k], axis=-1).mean() * 1e3) for k in (3, 7, 15)
        }
        for name, d in errors.items()
    }
    total = next(iter(found.values()))
    report = Report("Foresight", f"{total.harm} of {total.harm + total.safe} cups that stood came to harm")
    report.data = {
        "host": host(), "bundle": options.bundle, "episodes": options.episodes, "seed": options.seed,
        "foresight": {name: dict(value.metrics("x")) for name, value in found.items()},
        "tool_error_mm": ahead, "cpu_ms": {name: 1e3 * value / judged for name, value in spent_s.items()},
        "cups that lay or moved already, left out": int((~counts).sum()),
    }  # fmt: skip
    report.table([value.row(name) for name, value in found.items()])
    report.table([{"mean error of the tool, mm": name, **values} for name, values in ahead.items()])
    page = report.write(new_run_folder(options.runs))
    for name, value in found.items():
        print(" | ".join(value.row(name).values()))
    print(ahead, report.data["cpu_ms"], f"left out: {int((~counts).sum())}")
    print(f"bench: {report.summary} — {page}")


if __name__ == "__main__":
    main()
