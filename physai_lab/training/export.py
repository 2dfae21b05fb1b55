"""`physai export`: checkpoints to verified bundles on ONNX Runtime, checked against torch."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from physai_base.bundle import Bundle, write_bundle
from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_base.expert import DT_S, HORIZON
from physai_base.task import Task
from physai_base.tensor import TensorSpec
from physai_base.trained_on import differences, of_task, values_of
from physai_lab.runtimes.golden import golden_cases, graph_answer
from physai_lab.training.checkpoint import CheckpointError, load_checkpoint
from physai_lab.training.corrector import LARGEST_CORRECTION_M, CorrectorTraining, build_corrector
from physai_lab.training.doubt import FEATURE_CLIP as DENSITY_CLIP
from physai_lab.training.doubt import DoubtTraining, build_flow, build_surprise
from physai_lab.training.policy import FEATURE_CLIP, PolicyTraining, build_network
from physai_lab.training.vision import VisionTraining, build_encoder, eyes_of
from physai_lab.training.world_model import WorldModelTraining, build_dynamics, build_rollout
from physai_policy.flow_policy import SAMPLES
from physai_policy.images import View
from physai_policy.loading import interface_of
from physai_policy.networks import guided_sampler, sampler
from physai_policy.policy import space_of_actions
from physai_policy.shared import joint_action, joint_names, tasks_of
from physai_policy.vision import STATE, seen_feature_names
from physai_policy.vision_networks import vision_policy

PARITY = 1e-4  # largest difference between torch and ONNX Runtime, normalized units or metres


def chunk_unit(action: Sequence[str]) -> str:
    """Of a chunk's columns, for a manifest."""
    moved = ", ".join(action[:-1])
    return f"m{', rad' if 'yaw' in action else ''}: {moved} from the tool; gripper width"


class ParityError(PhysaiError):
    """ONNX Runtime computes something else than torch."""


def knows_several(checkpoint: Path) -> bool:
    """Whether the policy of a checkpoint is one of several tasks."""
    return bool(load_checkpoint(checkpoint, "policy")[0].get("tasks"))


def export_policy(
    checkpoint: Path,
    out: Path,
    embodiment: Embodiment,
    task: Task,
    chunking: str = "trained",
    graph_alone: bool = False,
) -> float:
    """Write the policy's bundle; returns the largest difference from torch on random inputs.

    One of several tasks is theirs, whatever `task` is. A bundle of the graph alone is half as large; the runtime torch, which
    needs the weights, cannot run it. `chunking` is how it continues a running chunk, one of `physai_policy.flow_policy.GRAPHS`.
    """
    notes, weights = load_checkpoint(checkpoint, "policy")
    settings = PolicyTraining(**notes["settings"])
    tasks = [Task.load(name) for name in notes.get("tasks", ())]
    names, action = task.feature_names(), task.action
    if tasks:
        names, action, task = joint_names(tasks), joint_action(tasks), tasks[0]
    columns = len(action)
    network = build_network(names, columns, settings)
    network.load_state_dict(weights)
    rng = np.random.default_rng(0)
    example = {
        "observation": rng.standard_normal((4, len(names))).astype(np.float32),
        "noise": rng.standard_normal((4, HORIZON, columns)).astype(np.float32),
        "prefix": rng.standard_normal((4, HORIZON, columns)).astype(np.float32),
        "given": (np.arange(HORIZON) < np.arange(4)[:, None]).astype(np.float32),
    }
    batch: int | str = "batch"
    module = sampler(network, settings.flow_steps).eval()
    if chunking != "trained":
        example = {name: np.tile(value, (2,) + (1,) * (value.ndim - 1)) for name, value in example.items()}
        batch = len(example["noise"])
        module = guided_sampler(network, settings.flow_steps, identity=chunking == "guided_identity")
        module = unrolled_guidance(module.eval(), example)
    bundle = _write(
        out, "policy", embodiment, task, notes,
        model=to_onnx(module, example, ["chunk"], free_batch=batch == "batch"),
        weights=None if graph_alone else {name: value.numpy() for name, value in weights.items()},
        inputs=[
            TensorSpec(
                "observation", (batch, len(names)), "m, m/s or 1, see config.features",
                mean=tuple(notes["observation_mean"]), std=tuple(notes["observation_std"]),
            ),
            TensorSpec("noise", (batch, HORIZON, columns), "1"),
            TensorSpec("prefix", (batch, HORIZON, columns), "1, normalized as the chunk"),
            TensorSpec("given", (batch, HORIZON), "1 where the step of the prefix is carried out anyway"),
        ],
        outputs=[
            TensorSpec(
                "chunk", (batch, HORIZON, columns), chunk_unit(action),
                mean=tuple(notes["action_mean"]), std=tuple(notes["action_std"]),
            )
        ],
        config={
            "horizon": HORIZON, "dt_s": DT_S, "task": ", ".join(t.name for t in tasks or [task]), "features": list(names),
            "feature_clip": FEATURE_CLIP, "flow_steps": settings.flow_steps, "action_space": space_of_actions(action).value, "chunking": chunking,
        },
    )  # fmt: skip
    return check_parity(module, bundle)


def export_vision(
    checkpoint: Path, out: Path, embodiment: Embodiment, task: Task, graph_alone: bool = False
) -> float:
    """Write the bundle of the policy that looks; returns the largest difference from torch on random inputs.

    A bundle of the graph alone is half as large; the runtime torch, which needs the weights, cannot run it.
    """
    notes, weights = load_checkpoint(checkpoint, "vision")
    document = dict(notes["settings"])
    field = PolicyTraining(**document.pop("field"))
    settings = VisionTraining(**document, field=field)
    names, views = seen_feature_names(task), [View.parse(view) for view in notes["views"]]
    encoder = build_encoder(views, embodiment, task, settings)
    module = vision_policy(
        encoder, build_network(names, len(task.action), field), field.flow_steps, FEATURE_CLIP
    )
    module.load_state_dict(weights)
    rng = np.random.default_rng(0)
    things = len(task.objects) + len(task.places)
    goal = np.zeros((1, things), np.float32)
    goal[0, [0, -1]] = 1
    example: dict[str, np.ndarray] = {
        **{view.camera: rng.integers(0, 256, (1, *view.size, 3), dtype=np.uint8) for view in views},
        "state": np.array([[0.5, 0.0, 0.3, 0.0, 0.0, 0.0, 0.08]], np.float32),
        "goal": goal,
        "noise": rng.standard_normal((SAMPLES, HORIZON, 4)).astype(np.float32),
        "prefix": rng.standard_normal((SAMPLES, HORIZON, 4)).astype(np.float32),
        "given": (np.arange(HORIZON) < np.arange(SAMPLES)[:, None]).astype(np.float32),
    }
    bundle = _write(
        out, "policy", embodiment, task, notes,
        model=to_onnx(module.eval(), example, ["chunk"], free_batch=False),
        weights=None if graph_alone else {name: value.numpy() for name, value in weights.items()},
        inputs=[
            *(TensorSpec(view.camera, (1, *view.size, 3), "1, RGB from 0 to 255", dtype="uint8") for view in views),
            TensorSpec("state", (1, len(STATE)), "m or m/s, see config.state"),
            TensorSpec("goal", (1, things), "1 for the object and the level of the goal, see config.goal"),
            TensorSpec("noise", (SAMPLES, HORIZON, 4), "1"),
            TensorSpec("prefix", (SAMPLES, HORIZON, 4), "1, normalized as the chunk"),
            TensorSpec("given", (SAMPLES, HORIZON), "1 where the step of the prefix is carried out anyway"),
        ],
        outputs=[
            TensorSpec(
                "chunk", (SAMPLES, HORIZON, 4), "m: x, y, z from the tool; gripper width",
                mean=tuple(notes["action_mean"]), std=tuple(notes["action_std"]),
            )
        ],
        config={
            "horizon": HORIZON, "dt_s": DT_S, "task": task.name, "features": list(names), "state": list(STATE),
            "goal": [*task.objects, *task.places], "images": [view.as_json() for view in views],
            "eyes": [asdict(eye) for eye in eyes_of(views, embodiment, task)], "grasped_m": task.grip_m,
            "feature_clip": FEATURE_CLIP, "flow_steps": field.flow_steps, "action_space": "tool_position", "chunking": "trained",
        },
    )  # fmt: skip
    return check_parity(module, bundle)


def export_corrector(checkpoint: Path, out: Path, embodiment: Embodiment, task: Task) -> float:
    """Write the corrector's bundle; returns the largest difference from torch on random inputs."""
    notes, weights = load_checkpoint(checkpoint, "corrector")
    names = task.feature_names()
    columns = len(task.action)
    network = build_corrector(len(names), CorrectorTraining(**notes["settings"]).width, columns)
    network.load_state_dict(weights)
    network.eval()
    rng = np.random.default_rng(0)
    example = {
        "observation": rng.standard_normal((1, len(names))).astype(np.float32),
        "plan": rng.standard_normal((1, HORIZON, columns)).astype(np.float32),
        "left": np.full((1, 1), 0.5, np.float32),
        "age": np.full((1, 1), 0.3, np.float32),
    }
    scale = tuple(notes["action_std"])
    bundle = _write(
        out, "corrector", embodiment, task, notes,
        model=to_onnx(network, example, ["correction"], free_batch=False),
        weights={name: value.numpy() for name, value in weights.items()},
        inputs=[
            TensorSpec(
                "observation", (1, len(names)), "m, m/s or 1, see config.features",
                mean=tuple(notes["observation_mean"]), std=tuple(notes["observation_std"]),
            ),
            TensorSpec(
                "plan", (1, HORIZON, columns), chunk_unit(task.action),
                mean=tuple(notes["action_mean"]), std=scale,
            ),
            TensorSpec("left", (1, 1), "1: share of the plan that the running chunk covers"),
            TensorSpec("age", (1, 1), "s"),
        ],
        outputs=[TensorSpec("correction", (1, HORIZON, columns), "m", mean=(0.0,) * columns, std=scale)],
        config={
            "horizon": HORIZON, "dt_s": DT_S, "task": task.name, "features": list(names),
            "feature_clip": FEATURE_CLIP, "largest_correction_m": LARGEST_CORRECTION_M,
        },
    )  # fmt: skip
    return check_parity(network, bundle)


def export_doubt(checkpoint: Path, out: Path, embodiment: Embodiment, task: Task) -> float:
    """Write the bundle of the observations' density, without thresholds; returns the largest difference from torch.

    `physai calibrate-doubt` adds the thresholds.
    """
    notes, weights = load_checkpoint(checkpoint, "doubt")
    names = task.feature_names()
    settings = DoubtTraining(**notes["settings"])
    flow = build_flow(len(names), settings.width, settings.blocks)
    flow.load_state_dict(weights)
    surprise = build_surprise(flow, settings.flow_steps).eval()
    example = {"observation": np.random.default_rng(0).standard_normal((1, len(names))).astype(np.float32)}
    bundle = _write(
        out, "doubt", embodiment, task, notes,
        model=to_onnx(surprise, example, ["surprise"], free_batch=False),
        weights={name: value.numpy() for name, value in weights.items()},
        inputs=[
            TensorSpec(
                "observation", (1, len(names)), "m, m/s or 1, see config.features",
                mean=tuple(notes["observation_mean"]), std=tuple(notes["observation_std"]),
            )
        ],
        outputs=[TensorSpec("surprise", (1, 1), "1")],
        config={"task": task.name, "features": list(names), "feature_clip": DENSITY_CLIP},
    )  # fmt: skip
    return check_parity(surprise, bundle)


def export_world_model(checkpoint: Path, out: Path, embodiment: Embodiment, task: Task) -> float:
    """Write the world model's bundle; returns the largest difference from torch on random inputs."""
    notes, weights = load_checkpoint(checkpoint, "world_model")
    settings = WorldModelTraining(**notes["settings"])
    objects, places, members = len(task.objects), len(task.places), settings.members
    dynamics = build_dynamics(settings, places)
    dynamics.load_state_dict(weights)
    rollout = build_rollout(dynamics, HORIZON).eval()
    inputs = {
        "tcp": (3,),
        "velocity": (3,),
        "width": (1,),
        "objects": (objects, 3),
        "places": (places, 3),
        "setpoints": (HORIZON, 4),
    }
    outputs = {
        "tcp_path": ((members, 1, HORIZON, 3), "m"), "objects_path": ((members, 1, HORIZON, objects, 3), "m"),
        "upright_path": ((members, 1, HORIZON, objects), "1"), "novelty": ((1,), "1"),
    }  # fmt: skip
    rng = np.random.default_rng(0)
    example = {name: rng.uniform(0, 0.3, (1, *shape)).astype(np.float32) for name, shape in inputs.items()}
    bundle = _write(
        out, "world_model", embodiment, task, notes,
        model=to_onnx(rollout, example, list(outputs), free_batch=False),
        weights={name: value.numpy() for name, value in weights.items()},
        inputs=[TensorSpec(name, (1, *shape), "m/s" if name == "velocity" else "m") for name, shape in inputs.items()],
        outputs=[TensorSpec(name, shape, units) for name, (shape, units) in outputs.items()],
        config={
            "horizon": HORIZON, "dt_s": DT_S, "task": task.name, "objects": list(task.objects),
            "places": list(task.places), "members": members, **notes["thresholds"],
        },
    )  # fmt: skip
    return check_parity(rollout, bundle)


def export_module(
    module: Any,
    out: Path,
    inputs: dict[str, tuple[int, ...]],
    mapping: dict[str, Any],
    *,
    robot: str,
    licence: str,
    training_data: str,
    task: str = "",
) -> float:
    """Write a bundle of any torch module that gives a chunk; returns the largest difference from torch on its golden cases.

    Args:
        module: takes the inputs in their order, (1, *shape) float32 each, not normalized; gives (1, H, D) actions.
        inputs: the shape of each by its name in `mapping`.
        mapping: what the inputs and actions are on the robot: `observation`, `actions` and `gripper` of docs/howto/remote.md.
        robot, task: names or files, for the golden cases: what is observed there.

    Raises:
        PhysaiError: the module gives another shape than the mapping says.
        BundleError: `out` holds something else; the mapping cannot be written.
        ParityError: ONNX Runtime computes something else than torch.
    """
    import torch

    embodiment, seen = Embodiment.load(robot), Task.load(task)
    rng = np.random.default_rng(0)
    example = {name: rng.standard_normal((1, *shape)).astype(np.float32) for name, shape in inputs.items()}
    with torch.no_grad():
        chunk = module.eval()(*map(torch.from_numpy, example.values()))
    actions = mapping["actions"]
    if chunk.ndim != 3 or chunk.shape[:2] != (1, actions["horizon"]):
        raise PhysaiError(
            f"the module gives {tuple(chunk.shape)}, expected (1, {actions['horizon']}, D): 1 observation, actions.horizon rows"
        )
    config = {"mapping": mapping, "history": 0, "noise": [], "samples": 1} | {
        "horizon": actions["horizon"],
        "dt_s": actions["dt_s"],
    }
    specs = [TensorSpec(name, value.shape, "see config.mapping") for name, value in example.items()]
    outputs = [TensorSpec("action", tuple(chunk.shape), "see config.mapping")]
    model = to_onnx(module, example, ["action"], free_batch=False)
    bundle = write_bundle(
        out, kind="policy", name=out.name, robot=embodiment.name, model=model, inputs=specs, outputs=outputs, config=config,
        training_data=training_data, metrics={}, licence=licence,
        cases=golden_cases("policy", config, specs, graph_answer(model, outputs), embodiment, seen),
        interface=interface_of("policy", config, embodiment, seen),
    )  # fmt: skip
    return check_parity(module, bundle)


def _write(
    out: Path,
    kind: str,
    embodiment: Embodiment,
    task: Task,
    notes: dict[str, Any],
    *,
    model: bytes,
    weights: dict[str, np.ndarray] | None,
    inputs: list[TensorSpec],
    outputs: list[TensorSpec],
    config: dict[str, Any],
) -> Bundle:
    """A bundle of ours with its golden cases.

    Raises:
        CheckpointError: it was trained on another task or robot than it is exported for.
    """
    trained_on = notes.get("trained_on") or {}
    for one in map(Task.load, tasks) if (tasks := tasks_of(config)) else [task]:
        trained = of_task(str(out), trained_on, one.definition) or {}
        wrong = differences(trained, values_of(one, embodiment), exactly=True)
        if wrong:
            raise CheckpointError(
                f"{out}: the checkpoint was trained on something else than the task {one.path} and the robot "
                f"{embodiment.path}: {'; '.join(wrong)}. Give what it was trained on, or train it anew"
            )
    return write_bundle(
        out, kind=kind, name=out.name, robot=embodiment.name, model=model, weights=weights, inputs=inputs, outputs=outputs,
        config=config, training_data=notes["data"], metrics=notes["metrics"], licence="Apache-2.0",
        cases=golden_cases(kind, config, inputs, graph_answer(model, outputs), embodiment, task), trained_on=trained_on,
        interface=interface_of(kind, config, embodiment, task),
    )  # fmt: skip


def unrolled_guidance(module: Any, example: dict[str, np.ndarray]) -> Any:
    """A guided sampler whose derivatives are plain operators, which ONNX can hold, for batches as large as the example's."""
    import torch
    from torch._decomp import core_aten_decompositions
    from torch.fx.experimental.proxy_tensor import make_fx

    observation, noise, prefix, given = (torch.from_numpy(value) for value in example.values())
    with torch.no_grad():
        context = module.network.context(observation, torch.zeros_like(prefix), torch.zeros_like(given))
        traced = make_fx(module.steer, decomposition_table=core_aten_decompositions())
        module.steer = traced(context, noise, prefix, given)
    return module


def to_onnx(
    module: Any, example: dict[str, np.ndarray], outputs: list[str], free_batch: bool = True
) -> bytes:
    """A module as one self-contained ONNX file; inputs are named by `example`."""
    import torch

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter announces its successor at every call
        torch.onnx.export(
            module,
            tuple(torch.from_numpy(value) for value in example.values()),
            buffer,  # type: ignore[arg-type]  # the annotation forgets what the documentation allows
            input_names=list(example),
            output_names=outputs,
            dynamic_axes={name: {0: "batch"} for name in [*example, *outputs]} if free_batch else None,
            opset_version=17,
            dynamo=False,
        )
    return buffer.getvalue()


def check_parity(module: Any, bundle: Bundle) -> float:
    """The largest difference between torch and ONNX Runtime, over the bundle's golden cases.

    Raises:
        ParityError: it is above `PARITY`.
    """
    import torch

    worst = 0.0
    for case in bundle.golden:
        with torch.no_grad():
            expected = module(*(torch.from_numpy(case.inputs[spec.name]) for spec in bundle.inputs))
        expected = [expected] if isinstance(expected, torch.Tensor) else list(expected)
        for spec, value in zip(bundle.outputs, expected, strict=True):
            apart = float(np.abs(case.outputs[spec.name] - value.numpy()).max())
            worst = apart if not apart <= worst else worst
    if not worst <= PARITY:
        raise ParityError(
            f"{bundle.path}: ONNX Runtime differs from torch by {worst:.2g}, allowed {PARITY:.0e}"
        )
    return worst
