"""`physai bench-policy`: how long one inference takes in each stage, in several runtimes, side by side.

All contenders take turns within one run, in an order drawn anew for each round, so that what else the machine does
hits them alike.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from physai_base.bundle import Bundle
from physai_base.errors import PhysaiError
from physai_base.task import Task
from physai_lab.progress import progress_bar
from physai_lab.report import Report, histogram, host, new_run_folder
from physai_policy.flow_policy import SAMPLES, FlowPolicy
from physai_policy.policy import Observation
from physai_policy.runtimes import RUNTIMES, Runtime, RuntimeOptions, options_for

STAGES = ("pre-processing", "inference", "post-processing")
EAGER = "eager"
WARM_UP = 20


@dataclass(frozen=True)
class Contender:
    """Something to be timed: `call` makes one inference and returns the seconds of its stages."""

    name: str
    detail: str
    call: Callable[[], tuple[float, float, float]]


class Timed:
    """A runtime that remembers when its last run began and ended."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.name, self.detail = runtime.name, runtime.detail
        self.began_s = self.ended_s = 0.0

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The runtime's outputs."""
        self.began_s = time.perf_counter()
        outputs = self._runtime.run(inputs)
        self.ended_s = time.perf_counter()
        return outputs


def served(
    bundle: Bundle, task: Task, runtime: str, options: RuntimeOptions, samples: int, observation: Observation
) -> Contender:
    """The policy as the node runs it."""
    policy = FlowPolicy(bundle, task, runtime, options_for(runtime, options), samples)
    timed = Timed(policy.runtime)
    policy.runtime = timed

    def call() -> tuple[float, float, float]:
        began = time.perf_counter()
        policy.infer(observation)
        ended = time.perf_counter()
        return timed.began_s - began, timed.ended_s - timed.began_s, ended - timed.ended_s

    return Contender(f"{runtime}, {_chunks(samples)}", timed.detail, call)


def eager_loop(bundle: Bundle, threads: int, samples: int, observation: Observation) -> Contender:
    """The same network in the loop that LeRobot's users run.

    A tensor for each observation, normalized by torch, the eager network under inference_mode with fresh noise, and
    back to numpy. What LeRobot adds to that (dictionaries, its pipeline's steps) is left out.
    """
    import torch

    from physai_policy.architectures import from_bundle

    torch.set_num_threads(threads)
    network = from_bundle(bundle)
    # Further inputs than these are for what only we do; they stay zero.
    more = [torch.zeros(samples, *(int(size) for size in spec.shape[1:])) for spec in bundle.inputs[2:]]
    spec, chunk = bundle.input("observation"), bundle.output("chunk")
    mean, std = torch.tensor(spec.mean), torch.tensor(spec.std)
    offset, scale = torch.tensor(chunk.mean), torch.tensor(chunk.std)
    clip, horizon = float(bundle.config["feature_clip"]), int(bundle.config["horizon"])
    tool = np.asarray(observation.tool_m)

    def call() -> tuple[float, float, float]:
        began = time.perf_counter()
        with torch.inference_mode():
            value = torch.from_numpy(observation.features).unsqueeze(0).expand(samples, -1)
            value = torch.clamp((value - mean) / std, -clip, clip)
            prepared = time.perf_counter()
            actions = network(value, torch.randn(samples, horizon, 4), *more)
            computed = time.perf_counter()
            actions = (actions * scale + offset).numpy()
        actions[..., :3] += tool
        return prepared - began, computed - prepared, time.perf_counter() - computed

    return Contender(
        f"{EAGER}, {_chunks(samples)}",
        f"torch {torch.__version__}, {threads} thread{'s' * (threads > 1)}",
        call,
    )


def _chunks(samples: int) -> str:
    return f"{samples} chunk{'s' * (samples > 1)}"


def take_turns(
    contenders: Sequence[Contender], rounds: int, progress: Callable[[int, int, str], None] | None = None
) -> dict[str, np.ndarray]:
    """Seconds (rounds, 3 stages) of every contender."""
    rng = np.random.default_rng(0)
    seconds = {contender.name: np.zeros((rounds, len(STAGES))) for contender in contenders}
    for contender in contenders:
        for _ in range(WARM_UP):
            contender.call()
    for index in range(rounds):
        for which in rng.permutation(len(contenders)):
            seconds[contenders[which].name][index] = contenders[which].call()
        if progress and index % 10 == 0:
            progress(index, rounds, "")
    return seconds


def summary(seconds: np.ndarray) -> dict[str, float]:
    """Mean and quantiles in ms."""
    milliseconds = seconds * 1e3
    p50, p99, p999 = np.quantile(milliseconds, (0.5, 0.99, 0.999))
    return {"mean ms": float(milliseconds.mean()), "p50 ms": p50, "p99 ms": p99, "p99.9 ms": p999}


def table(contenders: Sequence[Contender], seconds: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """A row for each contender and stage."""
    rows = []
    for contender in contenders:
        stages = seconds[contender.name]
        for stage, values in (*zip(STAGES, stages.T, strict=True), ("all", stages.sum(axis=1))):
            rows.append({"what": contender.name, "stage": stage, **summary(values)})
    return rows


def ratios(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """How many times as long `theirs` takes as `ours`, all stages together."""
    a, b = summary(ours.sum(axis=1)), summary(theirs.sum(axis=1))
    return {name.removesuffix(" ms"): b[name] / a[name] for name in a}


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows as aligned text."""
    shown = [
        {key: f"{value:.3f}" if isinstance(value, float) else str(value) for key, value in row.items()}
        for row in rows
    ]
    widths = {key: max(len(key), *(len(row[key]) for row in shown)) for key in shown[0]}
    for row in ({key: key for key in widths}, *shown):
        print("  " + "  ".join(row[key].ljust(width) for key, width in widths.items()).rstrip())


def bench_policy_command(arguments: argparse.Namespace) -> int:
    """Time the runtimes and write a report."""
    names = [name.strip() for name in arguments.runtimes.split(",")]
    unknown = [name for name in names if name not in (*RUNTIMES, EAGER)]
    if unknown:
        raise PhysaiError(
            f"--runtimes: {', '.join(unknown)} is not known; there are {', '.join(RUNTIMES)} and {EAGER}"
        )
    task = Task.load(arguments.task)
    bundle = Bundle.open(arguments.bundle, kind="policy", task=task)
    options = RuntimeOptions(
        threads=arguments.threads, providers=arguments.providers, precision=arguments.precision, cache=arguments.cache
    )  # fmt: skip
    contenders = bundle_contenders(bundle, task, names, options)
    with progress_bar("bench-policy") as progress:
        seconds = take_turns(contenders, arguments.rounds, progress)
    rows = table(contenders, seconds)
    print(f"host: {host()}")
    for contender in contenders:
        print(f"{contender.name}: {contender.detail}")
    print_table(rows)
    compared = compare(seconds)
    lines = [
        f"{theirs} takes {found['p50']:.2f} times as long as {ours} at p50, {found['p99']:.2f} times at p99"
        for ours, theirs, found in compared
    ]
    for line in lines:
        print(line)
    best = min(rows, key=lambda row: row["p50 ms"] if row["stage"] == "all" else np.inf)
    head = f"{best['what']} is fastest: p50 {best['p50 ms']:.2f} ms, p99 {best['p99 ms']:.2f} ms"
    report = Report(
        f"Inference of {bundle.name}", head,
        {"rows": rows, "ratios": [{"ours": o, "theirs": t, **f} for o, t, f in compared],
         "rounds": arguments.rounds, "contenders": {c.name: c.detail for c in contenders}},
    )  # fmt: skip
    report.text(f"{arguments.rounds} rounds; all take turns in each, in an order drawn anew.")
    report.table(rows)
    for line in lines:
        report.text(line)
    report.figure(
        histogram({name: list(values.sum(axis=1) * 1e3) for name, values in seconds.items()}, "ms"),
        "all stages together",
    )
    page = report.write(new_run_folder(arguments.runs))
    print(f"bench-policy: {head} — {page}")
    return 0


def bundle_contenders(
    bundle: Bundle, task: Task, names: Sequence[str], options: RuntimeOptions
) -> list[Contender]:
    """Each runtime with one chunk and with as many as the node asks for; the eager loop as well."""
    spec, rng = bundle.input("observation"), np.random.default_rng(0)
    features = rng.standard_normal(int(spec.shape[-1])).astype(np.float32)
    observation = Observation(
        0, np.asarray(spec.denormalize(features), np.float32), np.array([0.5, 0.0, 0.3])
    )
    free = isinstance(spec.shape[0], str)
    contenders = []
    for samples in (1, SAMPLES) if free else (int(spec.shape[0]),):
        for name in names:
            if name == EAGER:
                contenders.append(eager_loop(bundle, options.threads, samples, observation))
            else:
                contenders.append(served(bundle, task, name, options, samples, observation))
    return contenders


def compare(seconds: Mapping[str, np.ndarray]) -> list[tuple[str, str, dict[str, float]]]:
    """Every eager loop against every other contender: (ours, theirs, ratios)."""
    eager = [name for name in seconds if name.startswith(EAGER)]
    ours = [name for name in seconds if not name.startswith((EAGER, "torch"))]
    return [(a, b, ratios(seconds[a], seconds[b])) for b in eager for a in ours]
