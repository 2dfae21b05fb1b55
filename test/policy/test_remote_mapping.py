"""The file of a remote policy: what it may say, and what its mapping makes of observations and replies."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from remote_peers import MAPPINGS, observation
from transforms3d.axangles import axangle2mat
from transforms3d.euler import euler2mat
from transforms3d.quaternions import mat2quat, quat2mat

from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError, PolicyError
from physai_base.kinematics import ArmKinematics
from physai_base.resources import share_directory
from physai_base.task import Task
from physai_policy.loading import load_policy
from physai_policy.policy import ActionSpace
from physai_policy.remote.client import RemotePolicy
from physai_policy.remote.config import RemoteConfig, RemoteError
from physai_policy.remote.mapping import ActionMapping, GripperScale, fill, resized

EXAMPLES = sorted((share_directory() / "config" / "remote").glob("*.yaml"))


def config(tmp_path: Path, text: str) -> RemoteConfig:
    path = tmp_path / "remote.yaml"
    path.write_text(text)
    return RemoteConfig.load(path)


HEAD = "kind: openpi\naddress: ws://127.0.0.1:8000\n"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_shipped_examples_fit_the_shipped_robot(
    path: Path, embodiment: Embodiment, kinematics: ArmKinematics
) -> None:
    made = RemoteConfig.load(path)
    assert RemotePolicy(made, embodiment).horizon == made.actions.rows
    images = {camera.name: np.zeros((48, 64, 3), np.uint8) for camera in embodiment.cameras}
    seen = observation(robot=embodiment)
    seen = type(seen)(**{**vars(seen), "images": images})
    assert fill(made.observation, seen, made.gripper, kinematics.tool_pose)


def test_there_is_an_example_of_every_kind() -> None:
    assert {RemoteConfig.load(path).kind for path in EXAMPLES} == {"openpi", "gr00t", "openvla"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("kind: lerobot\naddress: grpc://127.0.0.1:8080\n", "pickle"),
        ("kind: pi0\naddress: ws://127.0.0.1:8000\n" + MAPPINGS["openpi"], "openpi, gr00t, openvla"),
        ("- a list", "must be a mapping"),
        ("kind: [", "cannot be read as YAML"),
        ("!!python/object/apply:os.system ['true']", "cannot be read as YAML"),
        ("kind: openpi\n" + MAPPINGS["openpi"], "address: is missing"),
        ("kind: openpi\naddress: http://127.0.0.1:8000\n" + MAPPINGS["openpi"], "ws://host:port or wss://host:port"),
        ("kind: openpi\naddress: ws://a:b@127.0.0.1\n" + MAPPINGS["openpi"], "a token belongs into token_file"),
        ("kind: openpi\naddress: ws://127.0.0.1:99999\n" + MAPPINGS["openpi"], "0-65535"),
        (HEAD + "verify: false\n" + MAPPINGS["openpi"], "verify: unknown entry; allowed: kind"),
        (HEAD + "timeout_s: .nan\n" + MAPPINGS["openpi"], "finite"),
        (HEAD + "timeout_s: 0\n" + MAPPINGS["openpi"], "timeout_s: must be within [0.01, 50]"),
        (HEAD + "timeout_s: yes\n" + MAPPINGS["openpi"], "timeout_s: must be a number"),
        (HEAD + "ca_file: ca.pem\n" + MAPPINGS["openpi"], "use wss://"),
        (HEAD + "token_file: none\n" + MAPPINGS["openpi"], "cannot be read"),
        (HEAD + MAPPINGS["openpi"].replace("[tool]", "[elbow]"), "features, gripper"),
        (HEAD + MAPPINGS["openpi"].replace("{values: [tool], dtype: float64}", "{}"), "one of values, image, text"),
        (HEAD + MAPPINGS["openpi"].replace("tool_position", "torque"), "tool_position, tool_pose, joint_position"),
        (HEAD + MAPPINGS["openpi"].replace("horizon: 6", "horizon: 6.5"), "whole number"),
        (HEAD + MAPPINGS["openpi"].replace("horizon: 6", "horizon: 6, columns: [-1]"), "columns: entry 0: must be within [0, 999]"),
        (HEAD + MAPPINGS["openpi"].replace("horizon: 6", "horizon: 6, relative: maybe"), "one of no, step, start"),
        (HEAD + MAPPINGS["openpi"] + "gripper: {closed: 1, open: 1, width_m: 0.1}", "must differ"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_with_the_reason(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(RemoteError, match=re.escape(str(tmp_path))) as caught:
        config(tmp_path, text)
    assert reason in str(caught.value)


@pytest.mark.parametrize("change", ["columns: [0, 1]", "scale: [1.0]", "columns: [0, 1, 2, 3, 4]"])
def test_columns_that_do_not_fit_the_robot_are_refused(
    tmp_path: Path, change: str, embodiment: Embodiment
) -> None:
    with pytest.raises(RemoteError, match="columns"):
        RemotePolicy(
            config(tmp_path, HEAD + MAPPINGS["openpi"].replace("horizon: 6", f"horizon: 6, {change}")),
            embodiment,
        )


def test_tokens_are_kept_from_others(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("0123456789abcdef\n")
    token.chmod(0o644)
    text = HEAD + "token_file: token\n" + MAPPINGS["openpi"]  # relative to the file
    with pytest.raises(RemoteError, match="chmod 600"):
        config(tmp_path, text)
    token.chmod(0o600)
    made = config(tmp_path, text)
    assert made.token == "0123456789abcdef" and made.token not in repr(made)
    for bad in ("short", "two words of many letters", "ключ" * 8):
        token.write_text(bad)
        with pytest.raises(RemoteError, match="visible ASCII"):
            config(tmp_path, text)


@pytest.mark.parametrize(
    ("address", "extra", "missing"),
    [
        ("ws://127.0.0.1:1", "", ""), ("ws://[::1]:1", "", ""), ("ws://localhost:1", "", ""),
        ("ws://10.0.0.2:1", "", "a token and TLS"), ("wss://gpu.example:1", "", "a token"),
        ("ws://localhost.example:1", "token_file: token\n", "TLS"), ("wss://10.0.0.2", "token_file: token\n", ""),
    ],
)  # fmt: skip
def test_what_others_can_reach_unprotected_is_warned_of(
    tmp_path: Path,
    address: str,
    extra: str,
    missing: str,
    embodiment: Embodiment,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "token").write_text("0123456789abcdef")
    (tmp_path / "token").chmod(0o600)
    made = config(tmp_path, f"kind: openpi\naddress: {address}\n{extra}{MAPPINGS['openpi']}")
    assert made.exposed == missing
    RemotePolicy(made, embodiment)
    assert (missing in caplog.text) and bool(missing) == bool(caplog.records)


def test_certificates_are_always_verified(tmp_path: Path) -> None:
    import ssl

    context = config(tmp_path, "kind: openpi\naddress: wss://127.0.0.1\n" + MAPPINGS["openpi"]).tls_context()
    assert context is not None and context.check_hostname and context.verify_mode is ssl.CERT_REQUIRED
    broken = "kind: openpi\naddress: wss://127.0.0.1\nca_file: remote.yaml\n" + MAPPINGS["openpi"]
    with pytest.raises(RemoteError, match="ca_file"):
        config(tmp_path, broken).tls_context()


def test_a_yaml_file_is_a_remote_policy_and_the_rest_bundles(
    tmp_path: Path, embodiment: Embodiment, task: Task
) -> None:
    made = config(tmp_path, HEAD + MAPPINGS["openpi"])
    policy = load_policy(made.path, embodiment, task)
    assert isinstance(policy, RemotePolicy) and policy.name == "remote"
    assert load_policy("policy", embodiment, task).name == "policy"
    with pytest.raises(PhysaiError, match="no such file"):
        load_policy(tmp_path / "none.yaml", embodiment, task)


# Observations ----------------------------------------------------------------------------------------------


def test_an_observation_becomes_the_message_that_the_file_describes(
    tmp_path: Path, embodiment: Embodiment, kinematics: ArmKinematics
) -> None:
    text = """
observation:
  observation/state: {values: [joints, gripper], dtype: float64}
  pose: {values: [tool, tool_rotation_vector, tool_quaternion, gripper_width]}
  images:
    image: {image: overview, size: [32, 32], layout: chw}
    raw: {image: overview}
  prompt: {text: instruction}
  unnorm_key: {constant: bridge}
actions: {space: joint_position, dt_s: 0.1, horizon: 2}
gripper: {closed: 1.0, open: 0.0, width_m: 0.08}
"""
    made, seen = config(tmp_path, HEAD + text), observation(robot=embodiment)
    message = fill(made.observation, seen, made.gripper, kinematics.tool_pose)
    assert message["observation/state"].dtype == np.float64
    np.testing.assert_allclose(message["observation/state"], [*embodiment.home, 0.5])
    pose = message["pose"].astype(float)
    rotation = kinematics.tool_pose(embodiment.home).rotation
    np.testing.assert_allclose(pose[:3], seen.tool_m, atol=1e-6)
    angle = np.linalg.norm(pose[3:6])
    np.testing.assert_allclose(axangle2mat(pose[3:6], angle), rotation, atol=1e-5)
    np.testing.assert_allclose(quat2mat(pose[6:10]), rotation, atol=1e-5)
    assert pose[10] == pytest.approx(0.04)
    assert message["images"]["image"].shape == (3, 32, 32) and message["images"]["raw"].shape == (48, 64, 3)
    assert message["prompt"] == "lift it" and message["unnorm_key"] == "bridge"


def test_what_an_observation_lacks_is_named(tmp_path: Path, kinematics: ArmKinematics) -> None:
    made = config(
        tmp_path, HEAD + MAPPINGS["gr00t"].replace("front: {image: overview", "front: {image: left")
    )
    with pytest.raises(PolicyError, match="'left'; it has: overview"):
        fill(made.observation, observation(), made.gripper, kinematics.tool_pose)
    seen = observation()
    blind = type(seen)(
        **{**vars(seen), "joint_rad": np.zeros(0), "images": {"left": np.zeros((8, 8, 3), np.uint8)}}
    )
    with pytest.raises(PolicyError, match="no joint angles"):
        fill(made.observation, blind, made.gripper, kinematics.tool_pose)


def test_padding_keeps_an_images_shape() -> None:
    image = np.full((50, 100, 3), 200, np.uint8)
    padded = resized(image, 60, 60, pad=True)
    assert (padded[15:45] == 200).all() and not padded[:15].any() and not padded[45:].any()
    assert (resized(image, 60, 60, pad=False) == 200).all()
    assert resized(image, 50, 100, pad=True) is image


# Actions ---------------------------------------------------------------------------------------------------


def mapping(space: ActionSpace, horizon: int, **change: Any) -> ActionMapping:
    return ActionMapping(space, 0.1, horizon, **change)


def test_absolute_joints_pass_as_they_are() -> None:
    rows = np.arange(16.0).reshape(2, 8) / 100
    chunk = mapping(ActionSpace.JOINT_POSITION, 2).chunk({"actions": rows}, observation(), 7, None)
    np.testing.assert_allclose(chunk.actions, rows[None])
    assert chunk.space is ActionSpace.JOINT_POSITION and chunk.dt_s == 0.1


def test_steps_add_up_from_where_the_robot_is() -> None:
    seen = observation()
    rows = np.tile([0.01, 0.0, -0.02, 1.0], (3, 1))
    made = mapping(
        ActionSpace.TOOL_POSITION,
        3,
        relative="step",
        scale=(2.0, 1.0, 1.0),
        gripper=GripperScale(0.0, 1.0, 0.08),
    )
    chunk = made.chunk({"actions": rows}, seen, 7, None)
    assert made.rows == 4 == len(chunk.chosen)
    np.testing.assert_allclose(chunk.chosen[0], [*seen.tool_m, 0.08])
    np.testing.assert_allclose(chunk.chosen[3, :3], seen.tool_m + 3 * np.array([0.02, 0.0, -0.02]))


def test_ways_from_the_observation_do_not_add_up() -> None:
    rows = np.tile([0.01, 0.0, -0.02, 0.05], (3, 1))
    chunk = mapping(ActionSpace.TOOL_POSITION, 3, relative="start").chunk(
        {"actions": rows}, observation(), 7, None
    )
    np.testing.assert_allclose(chunk.chosen, np.tile([0.41, 0.1, 0.28, 0.05], (3, 1)))


@pytest.mark.parametrize("rotation", ["euler", "rotation_vector", "quaternion"])
@pytest.mark.parametrize("relative", ["no", "step", "start"])
def test_rotations_of_every_spelling_and_reference(
    rotation: str, relative: str, embodiment: Embodiment, kinematics: ArmKinematics
) -> None:
    turn = euler2mat(0.1, -0.2, 0.3)
    angle = np.arccos((np.trace(turn) - 1) / 2)
    axis = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]) / (
        2 * np.sin(angle)
    )
    spelled = {
        "euler": [0.1, -0.2, 0.3],
        "rotation_vector": list(axis * angle),
        "quaternion": list(mat2quat(turn)),
    }
    rows = np.tile([0.0, 0.0, 0.01, *spelled[rotation], 0.04], (2, 1))
    made = mapping(ActionSpace.TOOL_POSE, 2, rotation=rotation, relative=relative)
    chunk = made.chunk({"actions": rows}, observation(robot=embodiment), 7, kinematics.tool_pose)
    start = kinematics.tool_pose(embodiment.home).rotation
    expected = {
        "no": [turn, turn],
        "start": [turn @ start] * 2,
        "step": [start, turn @ start, turn @ turn @ start],
    }
    for row, matrix in zip(chunk.chosen, expected[relative], strict=True):
        np.testing.assert_allclose(quat2mat(row[3:7]), matrix, atol=1e-9)


def test_keys_are_joined_columns_picked_and_samples_kept() -> None:
    made = mapping(
        ActionSpace.TOOL_POSITION,
        2,
        keys=("arm", "hand"),
        columns=(0, 1, 2, 6),
        gripper=GripperScale(1.0, 0.0, 0.1),
    )
    reply = {"arm": np.ones((2, 6), np.float32), "hand": [0.0, 1.0]}
    with pytest.raises(PolicyError, match="'hand' of the reply must have shape"):  # one row, not two
        made.chunk(reply, observation(), 7, None)
    reply["hand"] = [[0.0], [1.0]]
    np.testing.assert_allclose(
        made.chunk(reply, observation(), 7, None).chosen, [[1, 1, 1, 0.1], [1, 1, 1, 0]]
    )
    sampled = mapping(ActionSpace.TOOL_POSITION, 2, samples="samples")
    chunk = sampled.chunk(
        {"actions": np.zeros((2, 4)), "samples": np.ones((2, 5, 4))}, observation(), 7, None
    )
    assert chunk.actions.shape == (6, 2, 4) and chunk.disagreement == 0.0


BAD_REPLIES = {
    "no key": ({}, "no 'actions'; it has"),
    "another key": ({"action": np.zeros((2, 4))}, "it has: action"),
    "text": ({"actions": "zero"}, "must be numbers"),
    "truths": ({"actions": np.zeros((2, 4), bool)}, "must be numbers"),
    "ragged": ({"actions": [[0.0], [0.0, 1.0]]}, "not an array"),
    "too few rows": ({"actions": np.zeros((1, 4))}, "shape (2, D)"),
    "too many rows": ({"actions": np.zeros((3, 4))}, "shape (2, D)"),
    "no rows": ({"actions": np.zeros((0, 4))}, "shape (2, D)"),
    "no dimension": ({"actions": 3.0}, "shape (2, D)"),
    "a third dimension": ({"actions": np.zeros((2, 4, 1))}, "shape (2, D)"),
    "another width": ({"actions": np.zeros((2, 7))}, "tool_position needs 4"),
    "NaN": ({"actions": np.full((2, 4), np.nan)}, "not finite"),
    "infinity": ({"actions": np.full((2, 4), np.inf)}, "not finite"),
    "absurd": ({"actions": np.full((2, 4), 1e30)}, "1e+06 or more"),
}


@pytest.mark.parametrize(("reply", "reason"), BAD_REPLIES.values(), ids=BAD_REPLIES.keys())
def test_a_reply_that_was_not_agreed_on_is_refused(reply: dict[str, Any], reason: str) -> None:
    with pytest.raises(PolicyError) as caught:
        mapping(ActionSpace.TOOL_POSITION, 2).chunk(reply, observation(), 7, None)
    assert reason in str(caught.value)


def test_wrong_samples_and_quaternions_are_refused() -> None:
    sampled = mapping(ActionSpace.TOOL_POSITION, 2, samples="samples")
    for samples in (None, np.zeros((3, 5, 4)), np.zeros((2, 4)), "text", np.full((2, 1, 4), np.nan)):
        with pytest.raises(PolicyError):
            sampled.chunk({"actions": np.zeros((2, 4)), "samples": samples}, observation(), 7, None)
    with pytest.raises(PolicyError, match="unit length"):
        mapping(ActionSpace.TOOL_POSE, 1).chunk({"actions": np.zeros((1, 8))}, observation(), 7, None)


def test_the_gripper_stays_between_closed_and_open() -> None:
    scale = GripperScale(closed=1.0, open=-1.0, width_m=0.08)
    np.testing.assert_allclose(
        scale.to_width(np.array([1.5, 1.0, 0.0, -1.0, -9.0])), [0, 0, 0.04, 0.08, 0.08]
    )
    for width in (0.0, 0.03, 0.08):
        assert scale.to_width(np.array(scale.from_width(width))) == pytest.approx(width)
