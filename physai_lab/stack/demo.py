"""`physai demo`: the real stack, randomized episodes, a report."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_base.task import Task
from physai_base.values import ControlState
from physai_lab.report import Report, gif, histogram, new_figure, new_run_folder
from physai_lab.stack.bringup import Stack, join_stack, printer
from physai_lab.statistics import quantiles, wilson_interval
from physai_ros.graph import NONE, bringup_graph
from physai_sim.scene import Scene

REQUIRED_SHARE = 0.9
LATCHED = (ControlState.FAULT, ControlState.ESTOP)
SETTLE_S = 1.0  # of simulated time, after a randomization
EPISODE_TIMEOUT_S = 40.0  # of simulated time
WALL_TIMEOUT_S = 240.0  # an episode on a slow machine


@dataclass
class DemoEpisode:
    """What was seen of one episode."""

    instruction: str
    seed: int
    success: bool = False
    failure: str = ""
    duration_s: float = 0.0
    wall_s: float = 0.0
    chunks: int = 0
    vetoes: dict[str, int] = field(default_factory=dict)
    refused_chunks: int = 0
    frames: list[np.ndarray] = field(default_factory=list)
    tracking: list[tuple[float, float]] = field(default_factory=list)  # s, largest |error| rad


class Observer:
    """Listens to the stack and keeps what the report needs."""

    def __init__(self, node: Any, camera: str) -> None:
        """`camera`: the one whose images are counted."""
        from physai_ros import topics

        self._node = node
        self.episode: DemoEpisode | None = None
        self.began_ns = 0
        self.latency_ms: dict[str, list[float]] = {
            "image to scene": [],
            "image to chunk": [],
            "image to first torque": [],
        }
        self.seams_mrad: list[float] = []
        self.jitter_us: list[
            tuple[float, ...]
        ] = []  # s, wake-up p50 p99 p99.9 max, compute p50 p99 p99.9 max
        self.status: Any = None
        self._previous: Any = None
        self._sent: dict[int, float] = {}
        self._active = 0
        self._images = 0
        topics.hear(node, "scene", self._on_scene)
        topics.hear(node, "action_chunk", self._on_chunk)
        topics.hear(node, "chunk_verdict", self._on_verdict)
        topics.hear(node, "control/status", self._on_status)
        topics.hear(node, f"camera/{camera}/image_raw", self._on_image)

    def begin(self, episode: DemoEpisode) -> None:
        """Everything from now on belongs to that episode."""
        self.began_ns, self._previous, self.episode = self.now_ns(), None, episode

    def now_ns(self) -> int:
        """Simulated time."""
        return int(self._node.get_clock().now().nanoseconds)

    def _on_scene(self, message: Any) -> None:
        self.latency_ms["image to scene"].append((self.now_ns() - _ns(message.header.stamp)) / 1e6)

    def _on_chunk(self, message: Any) -> None:
        if not message.horizon:  # the end of one
            self._previous = None
            return
        self.latency_ms["image to chunk"].append(
            (_ns(message.header.stamp) - _ns(message.observation_stamp)) / 1e6
        )
        previous, self._previous = self._previous, message
        if previous is None:
            return
        # The seam: how far the new chunk's setpoint is from the old one's at the same moment.
        old = np.asarray(previous.values).reshape(previous.horizon, -1)
        new = np.asarray(message.values).reshape(message.horizon, -1)
        dt = message.dt.sec + message.dt.nanosec * 1e-9
        at = (_ns(message.header.stamp) - _ns(previous.start_stamp)) / 1e9 / dt
        here = (_ns(message.header.stamp) - _ns(message.start_stamp)) / 1e9 / dt
        if at <= len(old) - 1 and here <= len(new) - 1:
            self.seams_mrad.append(float(np.abs(_at(new, here) - _at(old, at)).max() * 1e3))

    def _on_verdict(self, message: Any) -> None:
        episode = self.episode  # the main thread may end it meanwhile
        if episode is not None and not message.allow:
            episode.vetoes[message.reason] = episode.vetoes.get(message.reason, 0) + 1

    def _on_status(self, message: Any) -> None:
        self.status = message
        if message.active_sequence and message.active_sequence != self._active:
            self._active = message.active_sequence
            self.latency_ms["image to first torque"].append(message.activation_latency * 1e3)
        seconds = _ns(message.header.stamp) / 1e9
        self.jitter_us.append((seconds, *message.wake_us, *message.latency_us))
        episode = self.episode
        if episode is not None and len(message.tracking_error):
            error = float(np.abs(message.tracking_error).max())
            episode.tracking.append((seconds - self.began_ns / 1e9, error))

    def _on_image(self, message: Any) -> None:
        self._images += 1
        episode = self.episode
        if episode is not None and self._images % 8 == 0:
            image = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
            episode.frames.append(image[::2, ::2].copy())


def demo(options: argparse.Namespace) -> int:
    """Run the demo; 0 when at least nine tenths of the episodes succeeded."""
    join_stack()
    import rclpy

    began = time.monotonic()
    if NONE in (options.policy, options.task):
        raise PhysaiError("a demo needs a policy and a task; a stack without is what `physai up` starts")
    embodiment, task = Embodiment.load(options.robot), Task.load(options.task)
    camera, twin = (
        embodiment.scene_camera.name,
        Scene.build(embodiment, task),
    )  # twin: of the stack's own cell
    folder = new_run_folder(options.runs)
    graph_of_stack = bringup_graph(
        robot=options.robot,
        task=options.task,
        policy=options.policy,
        world_model=options.world_model,
        handover=options.handover,
        namespace=options.namespace,
        real_time_factor=options.real_time_factor,
    )
    with (
        (folder / "stack.log").open("w") as log,
        Stack(graph_of_stack, _output(log, options.verbose)) as stack,
    ):
        print(
            f"demo: starting {len(graph_of_stack.nodes)} processes; their log is {folder / 'stack.log'}",
            flush=True,
        )
        stack.wait_ready()
        started_s = time.monotonic() - began
        rclpy.init(args=[])
        from rclpy.parameter import Parameter

        from physai_ros.place import StackNode

        node = StackNode(
            "physai_demo",
            namespace=options.namespace,
            parameter_overrides=[Parameter("use_sim_time", value=True)],
        )
        from physai_ros.executor import spun

        observer = Observer(node, camera)
        director = _Director(node, observer, stack)
        episodes = []
        parts = [part for part in options.randomize.split(",") if part]
        with spun(node), contextlib.closing(director):
            for index in range(options.episodes):
                seed = options.seed * 100_000 + index
                twin.randomize(seed, parts)
                text, meant = task.asked(index, twin.situation())
                try:
                    episode = director.run(text, meant.target, meant.destination, seed, parts)
                except _Silence as silence:
                    episode = DemoEpisode(text, seed, failure=str(silence))
                    observer.episode = None
                episodes.append(episode)
                outcome = "done" if episode.success else f"FAILED: {episode.failure}"
                print(
                    f"[{index + 1}/{options.episodes}] {text!r}: {outcome} in {episode.duration_s:.1f} s",
                    flush=True,
                )
            graph = sorted(name for name, _ in node.get_node_names_and_namespaces())
    page = _write_report(episodes, observer, folder, options, started_s, graph)
    good = sum(episode.success for episode in episodes)
    print(f"demo: {good}/{len(episodes)} succeeded — {page}")
    return 0 if good >= REQUIRED_SHARE * len(episodes) else 1


def _output(log: Any, verbose: bool) -> Callable[[str, str], None]:
    """Every line of every process into the log, and onto the terminal when asked to."""
    write_log = printer(log)
    write_terminal = printer(sys.stdout)

    def show(name: str, line: str) -> None:
        write_log(name, line)
        if verbose:
            write_terminal(name, line)

    return show


class _Silence(PhysaiError):
    """The stack lives but does not answer."""


class _Director:
    """Sets the cell up, gives the instruction, waits and has the outcome judged."""

    def __init__(self, node: Any, observer: Observer, stack: Stack) -> None:
        from rclpy.action import ActionClient
        from std_srvs.srv import Trigger

        from physai.action import ExecuteTask
        from physai.srv import Randomize, Score

        self._node, self._observer, self._stack = node, observer, stack
        self._randomize = node.create_client(Randomize, "sim/randomize")
        self._score = node.create_client(Score, "sim/score")
        self._reset = node.create_client(Trigger, "control/reset")
        self._execute: Any = ActionClient(node, ExecuteTask, "execute_task")
        for client in (self._randomize, self._score, self._reset):
            if not client.wait_for_service(timeout_sec=20.0):
                raise PhysaiError(f"the stack does not offer {client.srv_name}")
        if not self._execute.wait_for_server(timeout_sec=20.0):
            raise PhysaiError("the policy does not offer execute_task")

    def close(self) -> None:
        """Let go of the node."""
        self._execute.destroy()

    def run(self, text: str, target: str, destination: str, seed: int, parts: list[str]) -> DemoEpisode:
        """One episode."""
        from physai.action import ExecuteTask
        from physai.msg import PolicyStatus
        from physai.srv import Randomize, Score

        observer = self._observer
        response = self._wait(self._randomize.call_async(Randomize.Request(seed=seed, parts=parts)))
        if not response.success:
            raise PhysaiError(f"the cell refuses to randomize: {response.message}")
        self._clear_fault()
        self._pause(SETTLE_S)
        episode = DemoEpisode(text, seed)
        refused_before = observer.status.chunks_rejected if observer.status else 0
        observer.begin(episode)
        began = time.monotonic()
        goal = ExecuteTask.Goal(instruction=text, timeout=EPISODE_TIMEOUT_S)
        asked: list[str] = []

        def feedback(message: Any) -> None:
            if message.feedback.state == PolicyStatus.HANDOVER:
                asked.append(message.feedback.message)

        handle = self._wait(self._execute.send_goal_async(goal, feedback_callback=feedback))
        result = None
        said = "goal refused"
        if handle.accepted:
            try:
                ending = handle.get_result_async()
                self._wait(ending, WALL_TIMEOUT_S, unless=asked)
                if asked and not ending.done():  # nobody is here to take over
                    handle.cancel_goal_async()
                result = self._wait(ending).result
                said = asked[0] if asked else result.message
            except _Silence as silence:
                said = str(silence)
                handle.cancel_goal_async()
        observer.episode = None
        episode.wall_s = time.monotonic() - began
        episode.duration_s = (observer.now_ns() - observer.began_ns) / 1e9
        self._pause(0.5)
        score = self._wait(self._score.call_async(Score.Request(target=target, destination=destination)))
        episode.success = bool(score.success and result is not None and result.success)
        episode.chunks = int(result.chunks) if result is not None else 0
        episode.refused_chunks = (
            int(observer.status.chunks_rejected - refused_before) if observer.status else 0
        )
        if not episode.success:
            episode.failure = f"{score.failure or 'not noticed as done'} ({said})"
        return episode

    def _clear_fault(self) -> None:
        """A latched stop of the last episode is for an operator to clear; here that is the demo."""
        from std_srvs.srv import Trigger

        status = self._observer.status
        if status is None or status.state not in LATCHED:
            return
        print(f"  the controller is latched ({status.cause}); reset", flush=True)
        answer = self._wait(self._reset.call_async(Trigger.Request()))
        if not answer.success:
            raise PhysaiError(f"control/reset: {answer.message}")

    def _wait(self, future: Any, timeout_s: float = 30.0, unless: Sequence[str] = ()) -> Any:
        """The future's result; None when something came into `unless` before."""
        deadline = time.monotonic() + timeout_s
        while not future.done():
            if unless:
                return None
            _check(self._stack)
            if time.monotonic() > deadline:
                raise _Silence(
                    f"no answer from the stack within {timeout_s:g} s; see the log beside the report"
                )
            time.sleep(0.02)
        return future.result()

    def _pause(self, seconds: float) -> None:
        until = self._observer.now_ns() + seconds * 1e9
        deadline = time.monotonic() + 60.0
        while self._observer.now_ns() < until:
            _check(self._stack)
            if time.monotonic() > deadline:
                raise PhysaiError("simulated time stands still; see the log beside the report")
            time.sleep(0.01)


def _check(stack: Stack) -> None:
    if stack.failure:
        raise PhysaiError(stack.failure)


def _ns(stamp: Any) -> int:
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def _at(values: np.ndarray, step: float) -> np.ndarray:
    low = int(max(0.0, step))
    high = min(low + 1, len(values) - 1)
    return values[low] + (step - low) * (values[high] - values[low])


def _write_report(
    episodes: list[DemoEpisode],
    observer: Observer,
    folder: Path,
    options: argparse.Namespace,
    started_s: float,
    graph: list[str],
) -> Path:
    good = sum(episode.success for episode in episodes)
    low, high = wilson_interval(good, len(episodes))
    summary = f"{good}/{len(episodes)} succeeded (95 % Wilson interval {low:.0%} to {high:.0%})"
    status = observer.status
    simulated = sum(e.duration_s for e in episodes)
    wall = sum(e.wall_s for e in episodes)
    causes = Counter(e.failure for e in episodes if not e.success)
    loop: dict[str, Any] = {
        "cycles": int(status.cycles), "overruns": int(status.overruns), "missed_states": int(status.missed_states),
        "compute_us": dict(zip(("p50", "p99", "p99_9", "max"), map(float, status.latency_us), strict=True)),
        "wake_us": dict(zip(("p50", "p99", "p99_9", "max"), map(float, status.wake_us), strict=True)),
    } if status else {}  # fmt: skip
    tracking = [error * 1e3 for episode in episodes for _, error in episode.tracking]
    report = Report("physai demo", summary)
    report.data = {
        "episodes": [
            {key: value for key, value in vars(e).items() if key not in ("frames", "tracking")} for e in episodes
        ],
        "failure_causes": dict(causes),
        "latency_ms": {name: quantiles(values) for name, values in observer.latency_ms.items()},
        "seam_mrad": quantiles(observer.seams_mrad),
        "tracking_error_mrad": quantiles(tracking),
        "control_loop": loop,
        "start_up_s": started_s,
        "real_time_factor": simulated / wall if wall else 0.0,
        "nodes": graph,
        "world_model": options.world_model,
    }  # fmt: skip
    report.heading("Episodes")
    report.pictures(
        [(gif(e.frames, 160), f"{e.instruction}: {e.failure or 'done'}") for e in episodes if e.frames]
    )
    report.table(
        [
            {"instruction": e.instruction, "success": e.success, "failure": e.failure, "simulated s": round(e.duration_s, 1), "wall s": round(e.wall_s, 1), "chunks": e.chunks, "vetoes": sum(e.vetoes.values()), "refused": e.refused_chunks, "seed": e.seed}
            for e in episodes
        ]
    )  # fmt: skip
    report.heading("Latency of every stage, simulated time")
    report.figure(
        histogram(observer.latency_ms, "ms"),
        "From the stamp of an image to the scene, the chunk and the first torque computed from it",
    )
    report.heading("Chunk seams")
    report.figure(
        histogram({"seam": observer.seams_mrad}, "mrad"),
        "Largest joint difference between a new chunk and the running one at the same moment; the controller blends it away",
    )
    report.heading("Tracking error")
    figure, (axis,) = new_figure(1, height=3.0)
    figure.set_size_inches(9, 3)
    for episode in episodes:
        if episode.tracking:
            axis.plot(*np.array(episode.tracking).T * np.array([[1.0], [1e3]]), linewidth=0.8)
    axis.set_xlabel("s")
    axis.set_ylabel("largest joint error, mrad")
    report.figure(figure, "Reference minus measured, largest joint, one line for each episode")
    report.heading("Control loop")
    if observer.jitter_us:
        rows = np.array(observer.jitter_us)
        figure, (axis,) = new_figure(1, height=3.0)
        figure.set_size_inches(9, 3)
        for column, name in enumerate(("p50", "p99", "p99.9", "max")):
            axis.plot(rows[:, 0], rows[:, 1 + column], linewidth=0.8, label=f"wake-up, {name}")
            axis.plot(
                rows[:, 0], rows[:, 5 + column], linewidth=0.8, linestyle="--", label=f"compute, {name}"
            )
        axis.set_yscale("log")
        axis.set_xlabel("simulated s")
        axis.set_ylabel("µs")
        axis.legend(fontsize=6, ncols=4)
        report.figure(
            figure, "Jitter of the 1 kHz loop since its start: lateness of wake-ups, time of computation"
        )
    if status:
        report.table(
            [
                {"µs": name, **{quantile: round(value, 1) for quantile, value in loop[key].items()}}
                for name, key in (
                    ("computation of a cycle", "compute_us"),
                    ("lateness of the wake-up", "wake_us"),
                )
            ]
        )
        report.text(f"{loop['cycles']} cycles, {loop['overruns']} of them longer than 1 ms.")
    report.text(f"Real-time factor {report.data['real_time_factor']:.2f}; start-up {started_s:.1f} s.")
    return report.write(folder)
