"""`physai golden`: golden cases for a bundle, answered by its reference (docs/explanation/policy_runtimes.md).

Questions are such as the bundle is asked in use, and none is the warm-up's: inputs that are normalized are drawn from a normal
distribution, images are smooth with some noise, the rows of a running chunk that are given are as many as an inference takes.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from physai_base import golden
from physai_base.bundle import WITH_INTERFACE, WITHOUT_GRAPH, Bundle, rewrite_bundle
from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_base.golden import Answer, GoldenCase
from physai_base.kinematics import ArmKinematics
from physai_base.onnx_file import cpu_session
from physai_base.task import Task
from physai_base.tensor import TensorSpec
from physai_base.trained_on import as_json, values_of
from physai_policy.flow_policy import guidance_weights
from physai_policy.loading import interface_of
from physai_policy.mapped import ModelMapping
from physai_policy.policy import Observation
from physai_policy.prompt import TOKENIZER, Prompt

CASES, CASES_WITH_IMAGES = 6, 3
FAMILIAR = (
    0.3,
    1.0,
    2.0,
    0.6,
    1.5,
    3.0,
)  # how far from the middle of the demonstrations a doubt is asked, case by case
PROMPTS = (
    "lift the red block",
    "stay",
    "the blue one to the left",
    "put it down",
    "go home",
    "open the hand",
)
GIVEN = (0, 3, 5, 8, 2, 6)  # rows of a running chunk that are carried out anyway, case by case


def graph_answer(model: bytes, outputs: Sequence[TensorSpec]) -> Answer:
    """The reference of a graph: ONNX Runtime on the CPU, one thread."""
    session, names = cpu_session(model), [spec.name for spec in outputs]
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))


def golden_cases(
    kind: str,
    config: Mapping[str, Any],
    inputs: Sequence[TensorSpec],
    answer: Answer,
    embodiment: Embodiment,
    task: Task,
    prompt: Prompt | None = None,
) -> tuple[GoldenCase, ...]:
    """Cases for a bundle of that kind, whose `inputs` are these.

    Raises:
        GoldenError: nothing that is asked changes the answer.
    """
    images = any(spec.dtype == "uint8" and len(spec.shape) >= 4 for spec in inputs)
    asked = _questions(kind, config, inputs, embodiment, task, prompt, CASES_WITH_IMAGES if images else CASES)
    cases = golden.answers(answer, asked)
    dumb = golden.without_effect(answer, cases)
    if dumb:
        warnings.warn(
            f"no golden case depends on {', '.join(dumb)}: what mistakes these inputs will not be noticed",
            stacklevel=2,
        )
    return cases


def _questions(
    kind: str,
    config: Mapping[str, Any],
    inputs: Sequence[TensorSpec],
    embodiment: Embodiment,
    task: Task,
    prompt: Prompt | None,
    count: int,
) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(20_26)
    if kind == "world_model":
        scenes = [_scene(rng, inputs, embodiment, task) for _ in range(count)]
        scenes[-1]["tcp"] += np.float32(0.5)  # unlike all that it was trained on: that, too, has an answer
        return scenes
    found = [{spec.name: _drawn(rng, kind, spec, config, index) for spec in inputs} for index in range(count)]
    if "mapping" in config and prompt is None and "prompt" in config:
        raise PhysaiError("a bundle with a prompt needs its tokenizer")
    if "mapping" in config:
        _see(rng, found, config, inputs, embodiment, task, prompt)
    return found


def _shape(spec: TensorSpec) -> tuple[int, ...]:
    """One row of what has a named size."""
    return tuple(1 if isinstance(size, str) else size for size in spec.shape)


def _drawn(
    rng: np.random.Generator, kind: str, spec: TensorSpec, config: Mapping[str, Any], index: int
) -> np.ndarray:
    """An input of a policy, a corrector or a doubt; what else there is: normal numbers."""
    shape = _shape(spec)
    if spec.dtype == "uint8" and len(shape) >= 4:
        count = int(np.prod(shape[:-3]))
        value: np.ndarray = np.stack([picture(rng, shape[-3], shape[-2]) for _ in range(count)]).reshape(
            shape
        )
    elif spec.dtype.startswith(("int", "uint")):
        value = rng.integers(0, 100, shape)
    elif spec.dtype == "bool":
        value = rng.random(shape) < 0.5
    elif spec.name == "given":
        horizon, rows = shape[-1], min(GIVEN[index % len(GIVEN)], shape[-1] // 2)
        weights = (
            (np.arange(horizon) < rows).astype(float)
            if config.get("chunking", "trained") == "trained"
            else guidance_weights(horizon, rows, horizon - rows)
        )
        value = np.broadcast_to(weights, shape)
    elif spec.name == "left":
        value = rng.uniform(0.2, 1.0, shape)
    elif spec.name == "age":
        value = rng.uniform(0.05, 0.8, shape)
    elif spec.name == "goal":
        value = np.zeros(shape)
        places = 2 if shape[-1] < 4 else shape[-1] - 3
        value[..., index % (shape[-1] - places)] = value[..., -1 - index % places] = 1
    elif spec.name == "state" and "state" in config:
        value = rng.uniform(
            (0.35, -0.3, 0.05, -0.2, -0.2, -0.2, 0.0), (0.65, 0.3, 0.4, 0.2, 0.2, 0.2, 0.08), shape
        )
    else:
        value = np.clip(rng.standard_normal(shape), -3, 3)
        if kind == "doubt":
            value *= FAMILIAR[index % len(FAMILIAR)]
        if spec.name == "noise" and len(value) > 1:
            value[0] = 0  # the chunk that is carried out begins there
    return np.ascontiguousarray(value, dtype=spec.dtype)


def picture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8 with patches of colour and a little noise."""
    patches = rng.uniform(0, 255, (-(-height // 16), -(-width // 16), 3))
    smooth = np.kron(patches, np.ones((16, 16, 1)))[:height, :width]
    return np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)


def _scene(
    rng: np.random.Generator, inputs: Sequence[TensorSpec], embodiment: Embodiment, task: Task
) -> dict[str, np.ndarray]:
    """Objects and places where the task has them, a tool near an object, and a way past it."""
    feet = np.array([task.region(label).draw(rng) for label in task.objects])
    places = np.array([task.region(label).draw(rng) for label in task.places]).reshape(-1, 3)
    chosen = feet[rng.integers(len(feet))]
    tool = chosen + rng.uniform((-0.12, -0.12, 0.04), (0.12, 0.12, 0.2))
    end = chosen + rng.uniform((-0.06, -0.06, 0.02), (0.06, 0.06, 0.15))
    values = {
        "tcp": tool,
        "velocity": rng.normal(0, 0.1, 3),
        "width": rng.uniform(embodiment.gripper.opening_min, embodiment.gripper.opening_max, 1),
        "objects": feet,
        "places": places,
    }
    found = {}
    for spec in inputs:
        if spec.name == "setpoints":
            share = np.linspace(0, 1, int(spec.shape[1]))[:, None]  # type: ignore[arg-type]
            width = np.full(
                (len(share), 1), rng.uniform(embodiment.openings_at(0.25)[0], embodiment.openings_at(1.0)[0])
            )
            value = np.hstack([tool + share * (end - tool), width])
        else:
            value = values[spec.name]
        found[spec.name] = np.ascontiguousarray(value.reshape(_shape(spec)), dtype=spec.dtype)
    return found


def _see(
    rng: np.random.Generator,
    found: list[dict[str, np.ndarray]],
    config: Mapping[str, Any],
    inputs: Sequence[TensorSpec],
    embodiment: Embodiment,
    task: Task,
    prompt: Prompt | None,
) -> None:
    """Puts what a mapping makes of observations of this robot into the questions, in place of what was drawn."""
    mapping = ModelMapping.parse(config["mapping"], embodiment, prompt)
    for index, question in enumerate(found):
        moments = []
        for _ in range(max(1, int(config["history"]))):
            values = mapping.values(_observation(rng, index, embodiment, task, mapping.kinematics))
            moments.append(
                {spec.name: spec.normalize(values[spec.name]) for spec in inputs if spec.name in values}
            )
        for name in moments[0]:
            shape = question[name].shape
            question[name] = np.ascontiguousarray(
                np.stack([moment[name] for moment in moments]).reshape(shape)
            )


def _observation(
    rng: np.random.Generator, index: int, embodiment: Embodiment, task: Task, kinematics: ArmKinematics
) -> Observation:
    joints = embodiment.home + rng.uniform(-0.3, 0.3, len(embodiment.home))
    return Observation(
        stamp_ns=0,
        features=rng.normal(0, 0.2, len(task.feature_names())).astype(np.float32),
        tool_m=kinematics.tool_pose(joints).position,
        joint_rad=joints,
        gripper_width_m=float(rng.uniform(embodiment.gripper.opening_min, embodiment.gripper.opening_max)),
        images={camera.name: picture(rng, camera.height, camera.width) for camera in embodiment.cameras},
        instruction=PROMPTS[index % len(PROMPTS)],
        tool_velocity_m_s=rng.normal(0, 0.1, 3),
    )


def golden_command(options: argparse.Namespace) -> int:
    """Add cases to bundles, or replace those that they have."""
    embodiment, task = Embodiment.load(options.robot), Task.load(options.task)
    for name in options.bundle:
        bundle = Bundle.open(name, task=task)
        if options.interface:
            say_interface(bundle, embodiment, task)
            continue
        if options.trained_on:
            if bundle.trained_on:
                raise PhysaiError(f"{bundle.path}: says itself what it was trained on")
            values = as_json(values_of(task, embodiment))
            bundle = rewrite_bundle(bundle, bundle.path, trained_on=values)
        bundle = add_golden(bundle, embodiment, task)
        size = len(bundle.file(golden.GOLDEN)) / 1024
        print(f"golden: {len(bundle.golden)} cases, {size:.0f} KiB — {bundle.path}")
    return 0


def say_interface(bundle: Bundle, embodiment: Embodiment, task: Task) -> Bundle:
    """The bundle, written anew with what it needs of a robot; nothing else of it changes.

    Raises:
        PhysaiError: it is not of a kind that has an interface, or was made with another robot.
    """
    if bundle.kind not in WITH_INTERFACE:
        raise PhysaiError(f"{bundle.path}: a {bundle.kind} is of one robot; it has no interface")
    if bundle.robot != embodiment.name:
        raise PhysaiError(
            f"{bundle.path}: was made with the robot {bundle.robot}, and the interface is that robot's: give its file by --robot"
        )
    interface = interface_of(bundle.kind, bundle.config, embodiment, task)
    bundle = rewrite_bundle(bundle, bundle.path, interface=interface)
    print(f"golden: {interface.action_space}, {len(interface.cameras)} cameras — {bundle.path}")
    return bundle


def add_golden(bundle: Bundle, embodiment: Embodiment, task: Task) -> Bundle:
    """The bundle, written anew with cases that its reference has answered: ONNX Runtime on the CPU, or torch.

    Raises:
        PhysaiError: the control core evaluates this kind and no runtime; what computes it is missing; the robot is another's.
    """
    if bundle.kind in WITHOUT_GRAPH:
        raise PhysaiError(f"{bundle.path}: a {bundle.kind} is evaluated by the control core; it has no cases")
    prompt = None
    if bundle.has_graph:
        answer = graph_answer(bundle.model, bundle.outputs)
    else:
        from physai_policy.runtimes import RuntimeOptions
        from physai_policy.runtimes.torch import TorchRuntime

        run: Callable[..., Any] = TorchRuntime(bundle, RuntimeOptions(sizes={"batch": 1})).run
        answer = run
        if "prompt" in bundle.config:
            prompt = Prompt(bundle.file(TOKENIZER), bundle.config["prompt"])
    cases = golden_cases(bundle.kind, bundle.config, bundle.inputs, answer, embodiment, task, prompt)
    return rewrite_bundle(bundle, bundle.path, cases=cases)
