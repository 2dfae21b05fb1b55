"""`physai import hf`: transformers' files in, transformers' answers out, and nothing of what would be computed otherwise."""

from __future__ import annotations

import copy
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import hf_files
import numpy as np
import pytest
from hf_files import MAP, change, expected, write_checkpoint
from lerobot_files import actions
from scenes import make_scene

from physai_base.bundle import Bundle, manifest_digest
from physai_base.embodiment import Embodiment
from physai_base.errors import BundleError, PolicyError, RuntimeUnavailableError
from physai_base.expert import Goal
from physai_base.task import Task
from physai_lab.cli import main
from physai_lab.importing.huggingface.checkpoint import ARCHITECTURES, HuggingFaceError, PretrainedCheckpoint
from physai_lab.importing.huggingface.convert import PretrainedImportOptions, convert
from physai_policy.agent import Agent, AgentSettings
from physai_policy.loading import load_policy, where_it_runs
from physai_policy.mapped import MappedPolicy
from physai_policy.policy import Observation
from physai_policy.pretrained import NETWORKS, processed
from physai_policy.runtimes.torch import TorchRuntime

pytestmark = pytest.mark.slow

CAMERAS = {"overview": (480, 640), "wrist": (240, 320)}  # height and width of the shipped robot's
SENTENCE = "put the red cup on the top shelf"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("hf") / "checkpoint")


@pytest.fixture(scope="module")
def bundle(checkpoint: Path) -> Path:
    """The checkpoint, imported by the command."""
    return imported(checkpoint, checkpoint.parent / "bundle")


def imported(checkpoint: Path, out: Path, *options: str, mapping: dict[str, Any] = MAP) -> Path:
    document = out.parent / f"{out.name}.yaml"
    document.write_text(json.dumps(mapping))
    assert main(["import", "hf", str(checkpoint), "--map", str(document), "--out", str(out), *options]) == 0
    return out


@pytest.fixture()
def policy(bundle: Path, embodiment: Embodiment, task: Task) -> MappedPolicy:
    found = load_policy(bundle, embodiment, task, runtime="torch")
    assert isinstance(found, MappedPolicy)
    return found


def seen(seed: int, instruction: str = SENTENCE) -> Observation:
    """A random observation with both cameras."""
    rng = np.random.default_rng(seed)
    images = {name: rng.integers(0, 256, (*size, 3), np.uint8) for name, size in CAMERAS.items()}
    return Observation(
        stamp_ns=seed, features=np.zeros(0, np.float32), tool_m=np.zeros(3), joint_rad=rng.uniform(-1, 1, 7),
        gripper_width_m=0.05, images=images, instruction=instruction,
    )  # fmt: skip


def reference(folder: Path, now: Observation, noise: np.ndarray, **options: Any) -> np.ndarray:
    state = np.append(now.joint_rad, now.gripper_width_m)
    images = [now.images["wrist"], now.images["overview"]]  # in the order of the map
    return expected(folder, state, images, now.instruction, noise, **options)


# What it computes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_the_bundle_answers_what_transformers_answers(
    checkpoint: Path, policy: MappedPolicy, seed: int
) -> None:
    now = seen(seed, ("", SENTENCE, "stop")[seed])
    chunk = policy.infer(now)
    assert chunk.actions.shape == (1, hf_files.ROWS, 8) and chunk.dt_s == 0.05
    answer = reference(checkpoint, now, policy.noise["noise"])
    assert np.abs(actions(policy, chunk.chosen) - answer).max() <= 1e-5
    assert answer.std(axis=0).min() > 0.01
    np.testing.assert_array_equal(chunk.actions, policy.infer(now).actions)  # the noise is drawn once


def test_every_input_shows_in_the_answer(policy: MappedPolicy) -> None:
    now = seen(0)
    chunk = policy.infer(now).chosen
    swapped = {"wrist": now.images["overview"], "overview": now.images["wrist"]}
    for other in (
        replace(now, instruction="put the blue cup on the top shelf"),
        replace(now, joint_rad=now.joint_rad + 0.1),
        replace(now, images={**now.images, "wrist": np.zeros((240, 320, 3), np.uint8)}),
        replace(now, images={**now.images, "overview": np.zeros((480, 640, 3), np.uint8)}),
        replace(now, images=swapped),
    ):
        assert np.abs(policy.infer(other).chosen - chunk).max() > 1e-4


def test_shards_and_half_precision(tmp_path: Path, embodiment: Embodiment, task: Task) -> None:
    sharded = write_checkpoint(tmp_path / "sharded", "bfloat16", "20KB")
    assert len(list(sharded.glob("model-*.safetensors"))) > 2
    policy = load_policy(imported(sharded, tmp_path / "bundle"), embodiment, task, "torch")
    assert isinstance(policy, MappedPolicy) and isinstance(policy.runtime, TorchRuntime)
    assert policy.runtime.module.model.dtype.itemsize == 2
    now = seen(4)
    answer = reference(sharded, now, policy.noise["noise"])
    assert np.abs(actions(policy, policy.infer(now).chosen) - answer).max() <= 1e-5


def test_samples_and_steps_may_be_others(
    checkpoint: Path, tmp_path: Path, embodiment: Embodiment, task: Task
) -> None:
    out = imported(checkpoint, tmp_path / "bundle", "--samples", "3", "--steps", "7")
    policy, now = load_policy(out, embodiment, task, "torch"), seen(4)
    assert isinstance(policy, MappedPolicy)
    chunk, noise = policy.infer(now), policy.noise["noise"]
    assert chunk.actions.shape == (3, hf_files.ROWS, 8) and chunk.disagreement > 1e-3
    for k in range(3):
        answer = reference(checkpoint, now, noise[k : k + 1], num_steps=7)
        assert np.abs(actions(policy, chunk.actions[k]) - answer).max() <= 1e-5


@pytest.mark.parametrize(("height", "width"), [(480, 640), (90, 40), (28, 28), (14, 20)])
def test_images_are_those_of_pillow(height: int, width: int) -> None:
    """Pillow's bicubic resizing, which torchvision follows, differs by one of 255 levels where it rounds."""
    import torch
    from PIL import Image

    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    how = {"size": [28, 28], "padded": [28, 28], "mean": [0.5] * 3, "std": [0.5] * 3}
    found = processed(torch.from_numpy(image)[None], how)[0].numpy().transpose(1, 2, 0)
    scale = 28 / max(height, width)
    size = int(height * scale), int(width * scale)
    small = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC)) / 127.5 - 1
    assert np.abs(found[: size[0], : size[1]] - small).max() <= 1.01 / 127.5
    assert not found[size[0] :].any() and not found[:, size[1] :].any()


# In use ----------------------------------------------------------------------------------------------------


def test_the_agent_gives_it_images_and_the_instruction(
    checkpoint: Path,
    policy: MappedPolicy,
    embodiment: Embodiment,
    task: Task,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert set(policy.cameras) == {"wrist", "overview"} and not policy.takes_features
    assert where_it_runs(policy).startswith("in torch") and "eager on c" in where_it_runs(policy)
    asked: list[Observation] = []
    infer = policy.infer

    def spied(now: Observation, *rest: Any) -> Any:
        asked.append(now)
        return infer(now, *rest)

    monkeypatch.setattr(policy, "infer", spied)
    images = seen(0).images
    agent = Agent(embodiment, task, policy, AgentSettings(), images=lambda stamp_ns: images)
    agent.start(Goal("red_cup", "top_shelf"), 10**12, instruction=SENTENCE)
    agent.step(replace(make_scene(embodiment, task), stamp_ns=10**12))
    assert [now.instruction for now in asked] == [SENTENCE]
    assert (
        np.abs(
            actions(policy, infer(asked[0]).chosen) - reference(checkpoint, asked[0], policy.noise["noise"])
        ).max()
        <= 1e-5
    )


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        ("a" * 60, "has 62 tokens, the model takes 48"),
        ("look at <image>", "holds <image>"),
        ("go to <loc0001>", "does not take as a word"),
    ],
)
def test_instructions_that_it_cannot_take(policy: MappedPolicy, instruction: str, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        policy.infer(seen(0, instruction))


@pytest.mark.parametrize("runtime", ["onnx", "tensorrt"])
def test_other_runtimes_have_no_graph(bundle: Path, embodiment: Embodiment, task: Task, runtime: str) -> None:
    with pytest.raises(BundleError, match=f"no graph for the runtime {runtime}.*set runtime:=torch"):
        load_policy(bundle, embodiment, task, runtime)
    with pytest.raises(BundleError, match=r"has no model\.onnx"):
        _ = Bundle.open(bundle).model


def test_no_network_is_asked_for(
    bundle: Path, embodiment: Embodiment, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: Any) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    load_policy(bundle, embodiment, task, "torch")


def test_without_transformers_it_says_what_to_install(
    bundle: Path, embodiment: Embodiment, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(RuntimeUnavailableError, match=r"transformers: not installed.*make train-deps"):
        load_policy(bundle, embodiment, task, "torch")


def test_a_bundle_with_other_weights_is_refused(bundle: Path, embodiment: Embodiment, task: Task) -> None:
    from safetensors.torch import load, save

    from physai_policy.runtimes import RuntimeOptions, load_runtime

    found = Bundle.open(bundle)
    weights = load(found.file("weights.safetensors"))
    del weights["action_out_proj.bias"]
    found._contents["weights.safetensors"] = save(weights)
    with pytest.raises(BundleError, match=r"missing: action_out_proj\.bias.*import the model again"):
        load_runtime("torch", found, RuntimeOptions(sizes={"batch": 1}))
    found.config["network"]["model_type"] = "pi9"
    with pytest.raises(BundleError, match="model_type 'pi9' is not known; pi0 is"):
        load_runtime("torch", found, RuntimeOptions(sizes={"batch": 1}))


@pytest.mark.parametrize("change", [{"config": {}}, {"kind": "perception"}])
def test_nothing_else_goes_without_a_graph(bundle: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    shutil.copytree(bundle, tmp_path / "bundle")
    manifest = tmp_path / "bundle" / "manifest.json"
    document = {**json.loads(manifest.read_text()), **change}
    manifest.write_text(json.dumps({**document, "digest": manifest_digest(document)}))
    with pytest.raises(BundleError, match=r"files must list model\.onnx"):
        Bundle.open(tmp_path / "bundle")


# What is refused -------------------------------------------------------------------------------------------


def tensors(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def only_a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")


def in_shards(folder: Path, name: str) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"weight": name}}))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


CONFIG, PROCESSOR = "config.json", "processor_config.json"
SMOLVLA = "model_type is 'smolvla'; pi0 can be imported.*docs/howto/remote.md"
FAMILY = "vlm_config.model_type is 'llava'; only paligemma"
REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a pickle alone": (only_a_pickle, r"pytorch_model\.bin: files of this kind are Python pickles"),
    "code of its own": (lambda f: change(f / CONFIG, auto_map={"AutoModel": "m.M"}), "auto_map.*never run here"),
    "code of its own inside": (
        lambda f: change(f / PROCESSOR, image_processor={"auto_map": {}}), "auto_map.*never run here",
    ),
    "quantized": (lambda f: change(f / CONFIG, quantization_config={}), "quantized weights"),
    "another architecture": (lambda f: change(f / CONFIG, model_type="smolvla"), SMOLVLA),
    "another backbone": (lambda f: change(f / CONFIG, vlm_config={"model_type": "llava"}), FAMILY),
    "no processor": (lambda f: (f / PROCESSOR).unlink(), "has no processor_config.json"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer.json"),
    "a broken tokenizer": (lambda f: cut(f / "tokenizer.json"), "tokenizer.json cannot be read"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors"),
    "no statistics of states": (lambda f: change(f / PROCESSOR, state_mean=None), "state_mean is missing"),
    "no statistics of actions": (lambda f: change(f / PROCESSOR, actions_std=None), "actions_std is missing"),
    "inert statistics": (
        lambda f: change(f / PROCESSOR, actions_mean=[0] * 8, actions_std=[1] * 8), "of actions is inert",
    ),
    "uneven statistics": (lambda f: change(f / PROCESSOR, state_std=[1.0] * 7), "got 8 and 7"),
    "endless statistics": (lambda f: change(f / PROCESSOR, state_std=[float("inf")] * 8), "finite numbers"),
    "another chunk": (lambda f: change(f / PROCESSOR, chunk_size=7), "are others than in config.json"),
    "another size of images": (
        lambda f: change(f / PROCESSOR, image_processor={}), "image_seq_length is 256; only 4 is known",
    ),
    "a size that is none": (
        lambda f: change(f / PROCESSOR, image_processor={**hf_files.IMAGES, "size": 28}), "size must be max_height",
    ),
    "no architecture": (lambda f: change(f / CONFIG, model_type=["pi0"]), "pi0 can be imported"),
    "images as they are": (
        lambda f: change(f / PROCESSOR, image_processor={**hf_files.IMAGES, "do_normalize": False}), "do_normalize is False",
    ),
    "another image token": (
        lambda f: change(f / CONFIG, vlm_config={**json.loads((f / CONFIG).read_text())["vlm_config"], "image_token_id": 7}),
        "<image> is token 100, config.json says 7",
    ),
    "truncated weights": (lambda f: cut(f / "model.safetensors"), "is not a whole safetensors file"),
    "a weight that is not finite": (
        lambda f: tensors(f, lambda w: w["action_out_proj.bias"].fill_(float("nan"))), r"not finite: action_out_proj\.bias",
    ),
    "a missing weight": (
        lambda f: tensors(f, lambda w: w.pop("action_out_proj.bias")), r"missing: action_out_proj\.bias",
    ),
    "a weight left over": (
        lambda f: tensors(f, lambda w: w.update(more=w["action_out_proj.bias"].clone())), "unexpected: more",
    ),
    "a shard elsewhere": (lambda f: in_shards(f, "../model.safetensors"), "not the plain name"),
    "a shard that is a pickle": (lambda f: in_shards(f, "model.bin"), "not the plain name"),
    "a shard that is missing": (lambda f: in_shards(f, "other.safetensors"), "No such file"),
    "another shard than in the index": (
        lambda f: in_shards(f, "model-00001-of-00001.safetensors"), "does not hold what",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(
    case: str, checkpoint: Path, tmp_path: Path, embodiment: Embodiment, task: Task
) -> None:
    spoil, message = REFUSED[case]
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, folder)
    spoil(folder)
    with pytest.raises(HuggingFaceError, match=message):
        convert(
            PretrainedCheckpoint.read(folder),
            tmp_path / "out",
            embodiment,
            task,
            PretrainedImportOptions(MAP),
        )
    assert not (tmp_path / "out").exists()


def test_a_pickle_is_refused_by_its_name_and_a_hub_name_is_no_directory(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for path, message in (("pytorch_model.bin", "Python pickles"), ("lerobot/pi0_base", "download it first")):
        assert main(["import", "hf", path]) == 1
        assert message in capsys.readouterr().err


MAPS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no camera": (
        lambda m: [m["observation"].pop(name) for name in ("wrist_view", "base_view")], "at least one image",
    ),
    "no prompt": (lambda m: m["observation"].pop("prompt"), "must map state, prompt"),
    "no text in the prompt": (
        lambda m: m["observation"].update(prompt={"values": ["joints"]}), r"prompt is mapped to shape \[7\]",
    ),
    "a camera that there is not": (
        lambda m: m["observation"].update(base_view={"image": "ceiling"}), "no camera 'ceiling'; it has: ",
    ),
    "a size that is none": (
        lambda m: m["observation"].update(base_view={"image": "wrist", "size": 3}), "base_view.size must be",
    ),
    "too few numbers": (
        lambda m: m["observation"].update(state={"values": ["joints"]}), r"\[7\], the model takes \[8\]",
    ),
    "rows of its own": (lambda m: m["actions"].update(horizon=50), "actions may not have horizon"),
    "no actions": (lambda m: m.pop("actions"), "must have the mappings"),
}  # fmt: skip


@pytest.mark.parametrize("case", MAPS)
def test_mappings_that_do_not_suit(
    case: str, checkpoint: Path, tmp_path: Path, embodiment: Embodiment, task: Task
) -> None:
    mapping = copy.deepcopy(MAP)
    alter, message = MAPS[case]
    alter(mapping)
    with pytest.raises(HuggingFaceError, match=f"--map: .*{message}"):
        convert(
            PretrainedCheckpoint.read(checkpoint),
            tmp_path / "out",
            embodiment,
            task,
            PretrainedImportOptions(mapping),
        )
    assert not (tmp_path / "out").exists()


def test_without_a_mapping_one_is_proposed(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "hf", str(checkpoint)]) == 1
    said = capsys.readouterr().err
    assert "state: {values: [joints, gripper_width]}" in said and "prompt: {text: instruction}" in said
    assert "overview: {image: overview}" in said and "dt_s: SECONDS" in said


def test_what_can_be_read_can_be_computed() -> None:
    assert ARCHITECTURES.keys() == NETWORKS.keys() == {"pi0"}


def test_help_says_what_there_is() -> None:
    command = [sys.executable, "-m", "physai_lab.cli", "import", "hf", "--help"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "π0" in said and "--map YAML" in said and "--samples" in said and "--scheduler" not in said
