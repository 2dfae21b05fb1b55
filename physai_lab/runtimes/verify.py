"""`physai verify`: do torch, ONNX Runtime and an engine compute the same chunks?"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from physai_base.bundle import Bundle
from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_base.kinematics import ArmKinematics
from physai_base.outcome import Situation
from physai_base.task import Task
from physai_lab.progress import progress_bar
from physai_lab.report import Report, new_run_folder
from physai_lab.runtimes.bench_policy import print_table
from physai_policy.flow_policy import FlowPolicy
from physai_policy.policy import ActionSpace, Observation
from physai_policy.runtimes import RUNTIMES, Runtime, RuntimeOptions, options_for

COSINE = 0.999  # smallest, of every chunk; what NVIDIA asks of its own exports, too
ORDER = ("torch", "onnx", "tensorrt")  # the first that takes part is what the others are compared with


@dataclass(frozen=True)
class RuntimeComparison:
    """One runtime against the reference, over all observations and all chunks of each."""

    runtime: str
    detail: str
    max_abs: float  # normalized units: what the graph gives
    cosine: float  # the smallest of any chunk
    chunk: float  # largest difference of a tool position in m, or of a joint angle in rad
    width_m: float  # largest difference of the gripper's width
    good: bool


class Kept:
    """A runtime that keeps what it gave last."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.name, self.detail = runtime.name, runtime.detail
        self.outputs: dict[str, np.ndarray] = {}

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The runtime's outputs."""
        self.outputs = self._runtime.run(inputs)
        return self.outputs


def compare(
    bundle: Bundle,
    task: Task,
    runtimes: Sequence[str],
    options: RuntimeOptions,
    observations: Sequence[Observation],
    tolerance: float,
    progress: Callable[[int, int, str], None] | None = None,
) -> tuple[list[RuntimeComparison], ActionSpace]:
    """Every runtime after the first against the first. The policies differ in nothing but the runtime."""
    policies, kept = [], []
    for name in runtimes:
        policy = FlowPolicy(bundle, task, name, options_for(name, options))
        kept.append(Kept(policy.runtime))
        policy.runtime = kept[-1]
        policies.append(policy)
    raw: list[list[np.ndarray]] = [[] for _ in runtimes]
    actions: list[list[np.ndarray]] = [[] for _ in runtimes]
    space = ActionSpace.TOOL_POSITION
    for index, observation in enumerate(observations):
        for which, policy in enumerate(policies):
            chunk = policy.infer(observation)
            space = chunk.space
            actions[which].append(chunk.actions)
            raw[which].append(kept[which].outputs["chunk"])
        if progress:
            progress(index + 1, len(observations), "")
    results = []
    for which in range(1, len(runtimes)):
        theirs, ours = np.array(raw[0]), np.array(raw[which])
        a, b = theirs.reshape(-1, theirs[0, 0].size), ours.reshape(-1, ours[0, 0].size)
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        cosine = float(((a * b).sum(axis=1) / np.maximum(norms, 1e-12)).min())
        difference = np.abs(np.array(actions[0]) - np.array(actions[which]))
        chunk_difference, width = float(difference[..., :-1].max()), float(difference[..., -1].max())
        results.append(
            RuntimeComparison(
                runtimes[which], kept[which].detail, float(np.abs(a - b).max()), cosine, chunk_difference, width,
                good=cosine >= COSINE and chunk_difference <= tolerance and width <= tolerance,
            )
        )  # fmt: skip
    return results, space


def random_observations(bundle: Bundle, count: int, seed: int) -> list[Observation]:
    """Features drawn from the normalizer's mean and spread, clipped as the policy clips. No robot was ever there."""
    rng, spec, clip = np.random.default_rng(seed), bundle.input("observation"), bundle.config["feature_clip"]
    return [
        Observation(
            0,
            np.asarray(
                spec.denormalize(np.clip(rng.standard_normal(int(spec.shape[-1])), -clip, clip)), np.float32
            ),
            rng.uniform((0.3, -0.3, 0.1), (0.7, 0.3, 0.5)),
        )
        for _ in range(count)
    ]


def recorded_observations(
    root: Path, embodiment: Embodiment, task: Task, count: int, seed: int
) -> list[Observation]:
    """Moments out of a dataset of `physai demos`, drawn evenly.

    Raises:
        PhysaiError: there are none.
    """
    from physai_lab.data.dataset import read_episodes
    from physai_lab.training.policy import goal_at, scene_of

    kinematics, episodes = (
        ArmKinematics(embodiment),
        [episode for episode in read_episodes(root) if episode.kind != "play"],
    )
    moments = [(episode, frame) for episode in episodes for frame in range(len(episode))]
    if not moments:
        raise PhysaiError(f"--observations {root}: holds no demonstrations; make some with `physai demos`")
    rng, observations = np.random.default_rng(seed), []
    for which in rng.choice(len(moments), size=min(count, len(moments)), replace=False):
        episode, frame = moments[which]
        scene, goal = scene_of(episode, frame, task), goal_at(episode, frame, task)
        twist = kinematics.jacobian(scene.joint_position) @ scene.joint_velocity
        now = Situation.perceived(scene, twist, episode.columns["observation.wrench"][frame].astype(float))
        observations.append(
            Observation(
                scene.stamp_ns, task.features(now, goal), scene.tool.position_m, scene.joint_position,
                scene.tool.opening, tool_yaw=now.tool.yaw,
            )
        )  # fmt: skip
    return observations


def verify_command(arguments: argparse.Namespace) -> int:
    """Compare and write a report; 1 when a runtime differs."""
    runtimes = _choose(arguments.runtimes)
    embodiment, task = Embodiment.load(arguments.robot), Task.load(arguments.task)
    bundle = Bundle.open(arguments.bundle, kind="policy", robot=embodiment, task=task)
    random = arguments.observations == "random"
    observations = (
        random_observations(bundle, arguments.count, arguments.seed)
        if random
        else recorded_observations(
            Path(arguments.observations), embodiment, task, arguments.count, arguments.seed
        )
    )
    options = RuntimeOptions(
        providers=arguments.providers, precision=arguments.precision, cache=arguments.cache
    )
    with progress_bar("verify") as progress:
        results, space = compare(bundle, task, runtimes, options, observations, arguments.tolerance, progress)
    source = (
        f"{len(observations)} random observations within the normalizer's range (none was recorded)"
        if random
        else f"{len(observations)} recorded observations of {arguments.observations}"
    )
    unit = "rad" if space is ActionSpace.JOINT_POSITION else "m"
    rows = [
        {
            "runtime": result.runtime, "against": runtimes[0], "max abs": f"{result.max_abs:.1e}",
            "smallest cosine": f"{result.cosine:.7f}", f"chunk {unit}": f"{result.chunk:.1e}",
            "width m": f"{result.width_m:.1e}", "good": result.good,
        }
        for result in results
    ]  # fmt: skip
    good = all(result.good for result in results)
    head = f"{', '.join(r.runtime for r in results)} {'agree' if good else 'DO NOT AGREE'} with {runtimes[0]} on {source}"
    print_table(rows)
    report = Report(
        f"Parity of {bundle.name}", head,
        {"comparisons": [vars(result) for result in results], "observations": source, "bundle": bundle.digest},
    )  # fmt: skip
    report.text(
        f"Good: cosine of every chunk at least {COSINE}, no setpoint farther than {arguments.tolerance:g} m or rad."
    )
    report.table(rows)
    for result in results:
        report.text(f"{result.runtime}: {result.detail}")
    print(f"verify: {head} — {report.write(new_run_folder(arguments.runs))}")
    return 0 if good else 1


def _choose(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")] if text else []
    unknown = [name for name in names if name not in ORDER]
    if unknown:
        raise PhysaiError(f"--runtimes: {', '.join(unknown)} is not known; there are {', '.join(ORDER)}")
    chosen = [name for name in ORDER if (name in names if names else RUNTIMES[name].availability().good)]
    if len(chosen) < 2:
        raise PhysaiError(
            f"--runtimes: {', '.join(chosen)} alone compares nothing; two of {', '.join(ORDER)} are needed. "
            "What each lacks here: physai doctor"
        )
    return chosen
