"""`physai import lerobot`: LeRobot's files in, its answers out, and nothing at all of what would be computed otherwise.

The recipes hold what LeRobot 0.4.4 wrote and answered (test/parity); LeRobot itself is not needed here.
"""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lerobot_files import ENVIRONMENT, STATE, actions, observation, observations, recipe, write_checkpoint
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from remote_peers import serving
from scenes import make_scene

from physai_base.bundle import Bundle
from physai_base.embodiment import Embodiment
from physai_base.errors import BundleError, PolicyError
from physai_base.expert import Goal
from physai_base.task import Task
from physai_lab.cli import main
from physai_lab.importing.lerobot.checkpoint import LeRobotCheckpoint, LeRobotError
from physai_lab.importing.lerobot.convert import ImportOptions, convert
from physai_policy.agent import Agent, AgentSettings
from physai_policy.flow_policy import FlowPolicy
from physai_policy.loading import load_policy
from physai_policy.mapped import MappedPolicy
from physai_policy.policy import Observation

pytestmark = pytest.mark.slow

NAMES = ("act", "act_state", "diffusion")
PRE, POST = "policy_preprocessor.json", "policy_postprocessor.json"
NORMALIZER = "policy_preprocessor_step_3_normalizer_processor.safetensors"
UNNORMALIZER = "policy_postprocessor_step_0_unnormalizer_processor.safetensors"
Recipe = dict[str, Any]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every recipe's checkpoint, imported by the command."""
    root, found = tmp_path_factory.mktemp("import"), {}
    for name in NAMES:
        document = recipe(name)
        checkpoint = write_checkpoint(document, root / name / "checkpoint")
        found[name] = root / name / "bundle"
        (root / name / "map.yaml").write_text(json.dumps(document["map"]))
        command = ["import", "lerobot", str(checkpoint), "--map", str(root / name / "map.yaml")]
        assert main([*command, "--out", str(found[name])]) == 0
    return found


def answered(policy: MappedPolicy, document: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """What the policy answers to the recipe's observations: chunks, and first actions without a past."""
    found, given = observations(document), document["answers"]
    step_ns, moments, chunks, first = round(policy.dt_s * 1e9), document["moments"], [], []
    for index in range(document["observations"]):
        policy.noise = {name: np.array(given[name][index], np.float32) for name in policy.noise}
        start_ns = 10_000_000_000 * (1 + 2 * index)
        chunk = policy.infer(observation(found, index, moments - 1, start_ns)).chosen
        first.append(actions(policy, chunk)[0])
        for moment in range(moments):
            stamp_ns = start_ns + 5_000_000_000 + moment * step_ns
            chunk = policy.infer(observation(found, index, moment, stamp_ns)).chosen
        chunks.append(actions(policy, chunk))
    return np.array(chunks), np.array(first)


@pytest.mark.parametrize("name", NAMES)
def test_the_bundle_answers_what_lerobot_answered(
    bundles: dict[str, Path], name: str, embodiment: Embodiment, task: Task
) -> None:
    document = recipe(name)
    policy = load_policy(bundles[name], embodiment, task)
    assert isinstance(policy, MappedPolicy)
    chunks, first = answered(policy, document)
    assert np.abs(chunks - np.array(document["answers"]["chunks"])).max() <= 1e-5
    assert np.abs(first - np.array(document["answers"]["selected"])).max() <= 1e-5
    assert chunks.std() > 0.1 and chunks.shape[1:] == (policy.horizon, 8)
    assert "lerobot" not in sys.modules and "torchvision" not in sys.modules


def test_normalization_inside_the_model_file_as_before_lerobot_0_4(
    tmp_path: Path, embodiment: Embodiment, task: Task
) -> None:
    document = recipe("act_state")
    checkpoint = write_checkpoint(document, tmp_path / "old")
    to_old_layout(checkpoint, document)
    convert(checkpoint, tmp_path / "bundle", embodiment, task, ImportOptions(document["map"]))
    policy = load_policy(tmp_path / "bundle", embodiment, task)
    assert isinstance(policy, MappedPolicy)
    chunks, _ = answered(policy, document)
    assert np.abs(chunks - np.array(document["answers"]["chunks"])).max() <= 1e-5


def to_old_layout(
    checkpoint: Path, document: Recipe, change: Callable[[Any], Any] = lambda value: value
) -> None:
    """Statistics from the processors' files into buffers; `change` is applied to each."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(checkpoint / "model.safetensors")
    for name, values in document["files"][NORMALIZER].items():
        feature, _, key = name.rpartition(".")
        modules = (
            ("normalize_targets", "unnormalize_outputs") if feature == "action" else ("normalize_inputs",)
        )
        if key in ("mean", "std") and feature != ENVIRONMENT:  # without a mode, so without buffers
            for module in modules:
                value = change(np.array(values, np.float32))
                tensors[f"{module}.buffer_{feature.replace('.', '_')}.{key}"] = value
    save_file(tensors, checkpoint / "model.safetensors")
    for file in checkpoint.glob("policy_*"):
        file.unlink()


def test_the_manifest_says_what_was_imported(bundles: dict[str, Path]) -> None:
    bundle = Bundle.open(bundles["diffusion"], kind="policy", robot="fr3")
    document = recipe("diffusion")
    state = bundle.input(STATE)
    low, high = (np.array(document["files"][NORMALIZER][f"{STATE}.{end}"]) for end in ("min", "max"))
    np.testing.assert_allclose(state.normalize(np.stack([low, high])), [[-1] * 8, [1] * 8], atol=1e-6)
    assert bundle.input("observation.images.overview").shape == ("batch", 2, 32, 48, 3)
    assert bundle.config["source"]["noise_scheduler_type"] == "DDPM" and bundle.licence == "apache-2.0"
    assert len(bundle.training_data.split()[-1]) == 64
    assert bundle.metrics["onnx_against_torch"] < 1e-4


# Other samplers --------------------------------------------------------------------------------------------


def test_steps_and_scheduler_may_be_others_and_samples_tell_how_sure_it_is(
    bundles: dict[str, Path], tmp_path: Path, embodiment: Embodiment, task: Task
) -> None:
    checkpoint, document = bundles["diffusion"].parent / "checkpoint", recipe("diffusion")
    options = ImportOptions(document["map"], scheduler="DDIM", steps=3, samples=4)
    convert(checkpoint, tmp_path / "ddim", embodiment, task, options)
    bundle = Bundle.open(tmp_path / "ddim")
    assert [spec.name for spec in bundle.inputs if "noise" in spec.name] == ["noise"]
    policy = load_policy(tmp_path / "ddim", embodiment, task)
    now = observation(observations(document), 0, 0, 1)
    chunk = policy.infer(now)
    assert chunk.actions.shape == (4, 6, 8) and chunk.disagreement > 1e-3
    np.testing.assert_array_equal(chunk.actions, policy.infer(now).actions)  # the noise is drawn once


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("diffusion", {"steps": 101}, "--steps must be from 1 to 100"),
        ("diffusion", {"samples": 0}, "--samples must be at least 1"),
        ("act_state", {"steps": 5}, "are for diffusion policies"),
    ],
)
def test_samplers_that_there_are_not(
    bundles: dict[str, Path], name: str, options: dict[str, int], message: str, embodiment: Embodiment, task: Task,
    tmp_path: Path,
) -> None:  # fmt: skip
    checkpoint = bundles[name].parent / "checkpoint"
    with pytest.raises(LeRobotError, match=message):
        convert(checkpoint, tmp_path / "out", embodiment, task, ImportOptions(recipe(name)["map"], **options))
    assert not (tmp_path / "out").exists()


# What is refused -------------------------------------------------------------------------------------------


def config(document: Recipe) -> dict[str, Any]:
    return document["files"]["config.json"]


def step(document: Recipe, file: str, kind: str) -> dict[str, Any]:
    return next(entry for entry in document["files"][file]["steps"] if entry["registry_name"] == kind)


def without(mapping: dict[str, Any], *keys: str) -> None:
    for key in keys:
        del mapping[key]


REFUSED: dict[str, tuple[Callable[[Recipe], Any], str]] = {
    "no processors": (lambda d: without(d["files"], PRE, POST), "the normalizer is missing"),
    "half of the processors": (lambda d: without(d["files"], POST), "but no policy_postprocessor"),
    "no normalizer step": (
        lambda d: d["files"][PRE].update(steps=d["files"][PRE]["steps"][:-1]),
        "the normalizer is missing: no step normalizer_processor",
    ),
    "no statistics": (
        lambda d: step(d, PRE, "normalizer_processor").pop("state_file"),
        "normalizer of observation.state is inert.*observation.state.mean is missing",
    ),
    "no statistic of the action": (
        lambda d: without(d["files"][UNNORMALIZER], "action.std"),
        "normalizer of action is inert",
    ),
    "statistics that do nothing": (
        lambda d: d["files"][NORMALIZER].update({f"{STATE}.mean": [0.0] * 8, f"{STATE}.std": [1.0] * 8}),
        "normalizer of observation.state is inert: mean",
    ),
    "infinite statistics": (
        lambda d: d["files"][NORMALIZER].update({f"{STATE}.std": [float("inf")] * 8}),
        "holds numbers that are not finite",
    ),
    "statistics of another size": (
        lambda d: d["files"][NORMALIZER].update({f"{STATE}.std": [1.5] * 7}),
        "has 7 numbers, observation.state needs 8",
    ),
    "a feature that the normalizer skips": (
        lambda d: without(step(d, PRE, "normalizer_processor")["config"]["features"], STATE),
        "inert for observation.state",
    ),
    "a selection without a feature": (
        lambda d: step(d, PRE, "normalizer_processor")["config"].update(normalize_observation_keys=[]),
        "inert for observation.state",
    ),
    "a mode of the processor alone": (
        lambda d: step(d, PRE, "normalizer_processor")["config"]["norm_map"].update(STATE="MIN_MAX"),
        "normalizes STATE by MIN_MAX.*says MEAN_STD",
    ),
    "no mode": (lambda d: without(config(d)["normalization_mapping"], "ACTION"), "no normalization mode for ACTION"),
    "an unknown mode": (
        lambda d: config(d)["normalization_mapping"].update(STATE="ROBUST"),
        "mode 'ROBUST' of STATE is not known; there are: IDENTITY",
    ),
    "an unknown input": (
        lambda d: config(d)["input_features"].update({"observation.force": {"type": "STATE", "shape": [6]}}),
        "observation.force of type STATE is not known",
    ),
    "language": (
        lambda d: config(d)["input_features"].update({"task": {"type": "LANGUAGE", "shape": [1]}}),
        "task of type LANGUAGE is not known",
    ),
    "an image of four channels": (
        lambda d: config(d)["input_features"].update({"observation.image": {"type": "VISUAL", "shape": [4, 9, 9]}}),
        r"of a camera \[3, height, width\], got \[4, 9, 9\]",
    ),
    "another policy": (lambda d: config(d).update(type="smolvla"), "type is 'smolvla'; act and diffusion"),
    "a checkpoint of 2024": (lambda d: config(d).pop("type"), "Checkpoints of 2024 have no type"),
    "an adapter": (lambda d: config(d).update(use_peft=True), "adapter"),
    "a field of the future": (lambda d: config(d).update(rotary=True), "rotary: fields of a LeRobot that this"),
    "a missing field": (lambda d: config(d).pop("n_heads"), "has no n_heads"),
    "a field of another type": (lambda d: config(d).update(dim_model="64"), "dim_model must be int, got '64'"),
    "an activation that LeRobot cannot run": (
        lambda d: config(d).update(feedforward_activation="glu"), "must be relu or gelu, got glu",
    ),
    "a network of another size": (
        lambda d: config(d).update(dim_model=128), "does not fit the network of config.json.*size mismatch",
    ),
    "more layers than weights": (lambda d: config(d).update(n_encoder_layers=3), "does not fit.*Missing key"),
    "fewer layers than weights": (lambda d: config(d).update(n_encoder_layers=1), "does not fit.*Unexpected key"),
    "foreign weights": (
        lambda d: d["tensors"].update({"critic.weight": ["float32", [2, 2]]}), "not the network's: critic.weight",
    ),
    "an unknown step": (
        lambda d: d["files"][PRE]["steps"].append({"registry_name": "relative_actions_processor", "config": {}}),
        "step 'relative_actions_processor' is not known",
    ),
    "a class of somebody's": (
        lambda d: d["files"][POST]["steps"].append({"class": "os.path"}), "step 'os.path' is not known",
    ),
    "names that are exchanged": (
        lambda d: step(d, PRE, "rename_observations_processor")["config"].update(rename_map={"a": STATE}),
        "renames observations",
    ),
    "half precision": (
        lambda d: step(d, PRE, "device_processor")["config"].update(float_dtype="bfloat16"), "changes their type",
    ),
    "a state file elsewhere": (
        lambda d: step(d, PRE, "normalizer_processor").update(state_file="../secret.safetensors"),
        "must be the plain name of a .safetensors file",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_computed_otherwise_is_refused(
    case: str, tmp_path: Path, embodiment: Embodiment, task: Task
) -> None:
    document = recipe("act_state")
    mapping = copy.deepcopy(document["map"])
    change, message = REFUSED[case]
    change(document)
    checkpoint = write_checkpoint(document, tmp_path / "checkpoint")
    with pytest.raises(LeRobotError, match=message):
        convert(checkpoint, tmp_path / "out", embodiment, task, ImportOptions(mapping))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("pickle", "Python pickles, which run what they hold"),
        ("pickle named safetensors", "no safetensors file in spite of its name"),
        ("zip named safetensors", "no safetensors file in spite of its name"),
        ("truncated", "is not a safetensors file"),
        ("nan", "holds numbers that are not finite: "),
        ("no json", "is not JSON"),
        ("both", "normalization both in model.safetensors and in"),
        ("untouched buffers", "holds numbers that are not finite, which LeRobot starts from"),
        ("folder above", "give .*pretrained_model"),
        ("nowhere", "no such directory"),
        ("empty", "has no config.json and no model.safetensors"),
    ],
)
def test_files_that_are_refused(case: str, message: str, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    document = recipe("act_state")
    path = tmp_path / "checkpoint"
    if case not in ("nowhere", "empty"):
        write_checkpoint(document, path / ("pretrained_model" if case == "folder above" else ""))
    model = path / "model.safetensors"
    if case == "pickle":
        model.rename(path / "pytorch_model.bin")
    elif case.endswith("named safetensors"):
        model.write_bytes({"p": b"\x80\x04.", "z": b"PK\x03\x04"}[case[0]])
    elif case == "truncated":
        model.write_bytes(model.read_bytes()[:5000])
    elif case == "nan":
        tensors = load_file(model)
        tensors["model.action_head.bias"][3] = np.nan
        save_file(tensors, model)
    elif case == "no json":
        (path / "config.json").write_text("{type: act}")
    elif case == "both":
        save_file({**load_file(model), "normalize_inputs.buffer_observation_state.mean": np.zeros(8)}, model)
    elif case == "untouched buffers":
        to_old_layout(path, document, lambda value: np.full_like(value, np.inf))
    elif case == "empty":
        path.mkdir()
    with pytest.raises(LeRobotError, match=message):
        LeRobotCheckpoint.read(path)


def test_a_pickle_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "policy.pt").write_bytes(b"\x80\x04.")
    with pytest.raises(LeRobotError, match=r"policy\.pt: files of this kind are Python pickles"):
        LeRobotCheckpoint.read(tmp_path / "policy.pt")


# The mapping -----------------------------------------------------------------------------------------------

MAPS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "an input that is not mapped": (lambda m: without(m["observation"], STATE), "observation must map"),
    "too few numbers": (
        lambda m: m["observation"].update({STATE: {"values": ["joints"]}}),
        r"is mapped to shape \[7\], the model takes \[8\]",
    ),
    "an unknown quantity": (
        lambda m: m["observation"].update({STATE: {"values": ["torque"]}}),
        "must be some of",
    ),
    "a space of other columns": (
        lambda m: m["actions"].update(space="tool_position"),
        "has 4 columns.*gives 8",
    ),
    "rows of its own": (lambda m: m["actions"].update(horizon=50), "actions may not have horizon"),
    "no time": (lambda m: without(m["actions"], "dt_s"), "actions.dt_s: is missing"),
    "no actions": (lambda m: without(m, "actions"), "must have the mappings observation and actions"),
    "an unknown entry": (lambda m: m.update(speed=2), "speed: unknown entry"),
}


@pytest.mark.parametrize("case", MAPS)
def test_mappings_that_do_not_suit(
    case: str, bundles: dict[str, Path], tmp_path: Path, embodiment: Embodiment, task: Task
) -> None:
    mapping = recipe("act_state")["map"]
    change, message = MAPS[case]
    change(mapping)
    with pytest.raises(LeRobotError, match=f"--map: .*{message}"):
        convert(
            bundles["act_state"].parent / "checkpoint",
            tmp_path / "out",
            embodiment,
            task,
            ImportOptions(mapping),
        )
    assert not (tmp_path / "out").exists()


def test_without_a_mapping_one_is_proposed(
    bundles: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", "lerobot", str(bundles["act"].parent / "checkpoint")]) == 1
    said = capsys.readouterr().err
    assert "observation.state: {values: [joints, gripper_width]}" in said
    assert "observation.images.overview: {image: overview}" in said and "dt_s: SECONDS" in said


def test_a_camera_of_another_size_is_resized_and_a_missing_one_is_an_error(
    bundles: dict[str, Path], embodiment: Embodiment, task: Task
) -> None:
    policy = load_policy(bundles["act"], embodiment, task)
    now = observation(observations(recipe("act")), 0, 0, 1)
    large = np.kron(now.images["overview"], np.ones((4, 4, 1), np.uint8))
    bigger = type(now)(1, now.features, now.tool_m, now.joint_rad, now.gripper_width_m, {"overview": large})
    np.testing.assert_allclose(policy.infer(bigger).actions, policy.infer(now).actions, atol=1e-6)
    blind = type(now)(1, now.features, now.tool_m, now.joint_rad, now.gripper_width_m)
    with pytest.raises(PolicyError, match="no image of camera 'overview'"):
        policy.infer(blind)


def test_degrees_are_degrees(
    bundles: dict[str, Path], tmp_path: Path, embodiment: Embodiment, task: Task
) -> None:
    document = recipe("act_state")
    mapping = copy.deepcopy(document["map"])
    mapping["observation"][STATE] = {"values": ["joints_degrees", "gripper_width"]}
    mapping["actions"]["scale"] = [np.pi / 180] * 7
    options = ImportOptions(mapping)
    convert(bundles["act_state"].parent / "checkpoint", tmp_path / "bundle", embodiment, task, options)
    policy = load_policy(tmp_path / "bundle", embodiment, task)
    now = observation(observations(document), 0, 0, 1)
    turned = type(now)(1, now.features, now.tool_m, np.radians(now.joint_rad), now.gripper_width_m)
    expected = np.array(document["answers"]["chunks"])[0]
    assert np.abs(np.degrees(policy.infer(turned).chosen[:, :-1]) - expected[:, :-1]).max() <= 1e-5


# In use ----------------------------------------------------------------------------------------------------


def test_moments_of_the_past_are_found_by_their_time(
    bundles: dict[str, Path], embodiment: Embodiment, task: Task
) -> None:
    policy = load_policy(bundles["diffusion"], embodiment, task)
    assert isinstance(policy, MappedPolicy)
    found, dt_ns = observations(recipe("diffusion")), round(policy.dt_s * 1e9)
    assert dt_ns == 50_000_000

    def moments(index: int, stamp_ns: int) -> list[float]:
        """First joint of the two moments that the network sees, in rad."""
        state = policy.inputs(observation(found, index, 0, stamp_ns))[STATE]
        return [float(value) for value in policy._inputs[STATE].denormalize(state)[0, :, 0]]

    first, second = float(found[STATE][0, 0, 0]), float(found[STATE][1, 0, 0])
    start = 10**12
    assert moments(0, start) == pytest.approx([first, first], abs=1e-6)  # nothing came before
    assert moments(1, start + dt_ns) == pytest.approx([first, second], abs=1e-6)
    assert moments(0, start + dt_ns + 20_000_000) == pytest.approx(
        [first, first], abs=1e-6
    )  # nearer to `start`
    assert moments(1, start + 20 * dt_ns) == pytest.approx([second, second], abs=1e-6)  # all too old
    assert moments(0, start) == pytest.approx([first, first], abs=1e-6)  # the clock was set back


def test_the_agent_tells_it_what_was_seen_between_two_inferences(
    bundles: dict[str, Path], embodiment: Embodiment, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = load_policy(bundles["diffusion"], embodiment, task)
    assert isinstance(policy, MappedPolicy) and policy.dt_s == 0.05
    asked: list[tuple[float, float]] = []
    inputs = policy.inputs

    def spied(now: Observation) -> dict[str, np.ndarray]:
        found = inputs(now)
        state = policy._inputs[STATE].denormalize(found[STATE])[0, :, 0]
        asked.append((float(state[0]), float(state[1])))
        return found

    monkeypatch.setattr(policy, "inputs", spied)
    images = {name: np.zeros((480, 640, 3), np.uint8) for name in policy.cameras}
    settings = AgentSettings(replan_period_s=0.2)
    agent = Agent(embodiment, task, policy, settings, images=lambda stamp_ns: images)
    scene, start_ns, turn = make_scene(embodiment, task), 10**12, 0.001
    agent.start(Goal("red_cup", "top_shelf"), start_ns)
    for frame in range(11):  # 50 ms apart, the first joint turns evenly
        joints = scene.joint_position + np.append(turn * frame, np.zeros(len(scene.joint_position) - 1))
        now = replace(scene, stamp_ns=start_ns + frame * 50_000_000, joint_position=joints)
        agent.remember(now)
        agent.step(now)
    first = scene.joint_position[0] + turn * np.array([0, 4, 8])
    past = scene.joint_position[0] + turn * np.array([0, 3, 7])  # nothing came before the first
    np.testing.assert_allclose(asked, np.column_stack([past, first]), atol=1e-6)


def test_it_is_served_to_openpis_client(bundles: dict[str, Path], embodiment: Embodiment, task: Task) -> None:
    policy = load_policy(bundles["act"], embodiment, task)
    assert isinstance(policy, MappedPolicy) and not policy.takes_features
    document = recipe("act")
    now = observation(observations(document), 0, 0, 1)
    with serving(policy, example=now) as server:
        client = WebsocketClientPolicy("127.0.0.1", server.port)
        said = client.get_server_metadata()["physai"]
        assert (said["space"], said["horizon"], said["columns"]) == ("joint_position", 12, 8)
        message = {"tool_m": now.tool_m, "joint_rad": now.joint_rad, "gripper_width_m": now.gripper_width_m}
        reply = client.infer({**message, "images": now.images})
    expected = np.array(document["answers"]["chunks"])[0]
    assert np.abs(actions(policy, reply["actions"]) - expected).max() <= 1e-5


def test_a_bundle_for_another_robot_or_command_is_refused(
    bundles: dict[str, Path], embodiment: Embodiment, task: Task
) -> None:
    bundle = Bundle.open(bundles["act_state"])
    with pytest.raises(BundleError, match="no flow policy of physai's own"):
        FlowPolicy(bundle, task)
    bundle.config["mapping"]["actions"]["space"] = "tool_position"
    with pytest.raises(
        BundleError, match=r"tool_position of this robot has 4 columns.*import the model again"
    ):
        MappedPolicy(bundle, embodiment, task)


def test_help_says_what_there_is() -> None:
    command = [sys.executable, "-m", "physai_lab.cli", "import", "lerobot", "--help"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.search(r"--map YAML", said) and "--steps" in said
