"""A bundle that is not exactly what was written, or is meant for something else, is refused with the reason."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_models import doubling_model

from physai_base import bundle as bundle_module
from physai_base.bundle import MANIFEST, MODEL, WEIGHTS, Bundle, write_bundle
from physai_base.errors import BundleError
from physai_base.golden import GoldenCase
from physai_base.task import Task
from physai_base.tensor import TensorSpec


def write(directory: Path, **changes) -> Bundle:
    entries = {
        "kind": "policy",
        "name": "double",
        "robot": "fr3",
        "model": doubling_model(),
        "inputs": [TensorSpec("x", ("batch", 3), "m", mean=(1.0, 2.0, 3.0), std=(1.0, 0.5, 2.0))],
        "outputs": [TensorSpec("y", ("batch", 3), "m")],
        "config": {"horizon": 16, "dt_s": 0.1},
        "training_data": "three numbers",
        "metrics": {"success": 1.0},
        "licence": "Apache-2.0",
        "weights": {"offset": np.arange(4, dtype=np.float32)},
        "cases": [
            GoldenCase({"x": x}, {"y": 2 * x})
            for x in (np.eye(3, dtype=np.float32)[:1], np.ones((1, 3), np.float32))
        ],
    }
    return write_bundle(directory, **(entries | changes))


@pytest.fixture
def directory(tmp_path) -> Path:
    write(tmp_path / "double")
    return tmp_path / "double"


def rewrite_manifest(directory: Path, change) -> None:
    """What someone would do who wants the change to pass: with a fresh digest."""
    document = json.loads((directory / MANIFEST).read_text())
    change(document)
    document["digest"] = bundle_module.manifest_digest(document)
    (directory / MANIFEST).write_text(json.dumps(document))


def test_a_bundle_comes_back_as_it_was_written(directory):
    bundle = Bundle.open(directory, kind="policy", robot="fr3")
    assert (bundle.config, bundle.metrics) == ({"horizon": 16, "dt_s": 0.1}, {"success": 1.0})
    np.testing.assert_array_equal(bundle.weights()["offset"], np.arange(4))
    x = np.array([[1.0, 2.0, 3.0]], np.float32)
    np.testing.assert_array_equal(bundle.session(threads=1).run(["y"], {"x": x})[0], 2 * x)


def test_a_residual_has_weights_and_no_graph(tmp_path):
    bundle = write(tmp_path / "residual", kind="residual", model=None)
    np.testing.assert_array_equal(bundle.weights()["offset"], np.arange(4))
    with pytest.raises(BundleError, match=r"must list weights\.safetensors"):
        write(tmp_path / "empty", kind="residual", model=None, weights=None)
    with pytest.raises(BundleError, match=r"must list model\.onnx"):
        write(tmp_path / "policy", model=None)


def test_normalization_is_undone_by_denormalization(directory):
    spec = Bundle.open(directory).input("x")
    value = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    assert spec.normalize(value).dtype == np.float32
    np.testing.assert_allclose(spec.denormalize(spec.normalize(value)), value, atol=1e-6)
    np.testing.assert_allclose(spec.normalize(np.array([1.0, 2.0, 3.0])), 0)


def test_writing_again_replaces_and_leaves_nothing_behind(directory):
    first = Bundle.open(directory).digest
    assert write(directory, metrics={"success": 0.5}).digest != first
    assert [p.name for p in directory.parent.iterdir()] == ["double"]


def test_the_same_content_has_the_same_digest(directory, tmp_path):
    assert write(tmp_path / "again").digest == Bundle.open(directory).digest


def test_a_failed_write_leaves_the_old_bundle(directory):
    before = Bundle.open(directory).digest
    with pytest.raises(BundleError, match="manifest says"):
        write(directory, outputs=[TensorSpec("y", ("batch", 4), "m")])
    assert Bundle.open(directory).digest == before
    assert [p.name for p in directory.parent.iterdir()] == ["double"]


def test_a_directory_that_is_no_bundle_is_not_overwritten(tmp_path):
    (tmp_path / "thesis.md").write_text("ten years")
    with pytest.raises(BundleError, match="not a bundle"):
        write(tmp_path)
    assert (tmp_path / "thesis.md").read_text() == "ten years"


@pytest.mark.parametrize("name", [MODEL, WEIGHTS, MANIFEST])
def test_a_flipped_bit_is_found_in_every_file(directory, name):
    data = (directory / name).read_bytes()
    for at in np.linspace(0, len(data) - 2, 25).astype(int):
        if data[at : at + 1].isspace():
            continue
        (directory / name).write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(BundleError):
            Bundle.open(directory)
    (directory / name).write_bytes(data)
    Bundle.open(directory)


@pytest.mark.parametrize("name", [MODEL, WEIGHTS, MANIFEST])
def test_a_truncated_file_is_refused(directory, name):
    data = (directory / name).read_bytes()
    (directory / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(BundleError, match=r"damaged|bytes"):
        Bundle.open(directory)


@pytest.mark.parametrize("name", [MODEL, WEIGHTS, MANIFEST])
def test_a_missing_file_is_named(directory, name):
    (directory / name).unlink()
    with pytest.raises(BundleError, match=f"{name}.*is missing"):
        Bundle.open(directory)


def test_a_longer_file_is_refused(directory):
    with (directory / MODEL).open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match="more than"):
        Bundle.open(directory)


@pytest.mark.parametrize("name", ["extra.txt", "model.pkl", ".hidden"])
def test_an_extra_file_is_named(directory, name):
    (directory / name).write_text("hello")
    with pytest.raises(BundleError, match=f"{name} is not in the manifest"):
        Bundle.open(directory)


def test_the_wrong_robot_or_kind_is_refused_before_the_files_are_read(directory):
    (directory / MODEL).unlink()
    with pytest.raises(BundleError, match="robot 'fr3', this robot is 'ur5e'"):
        Bundle.open(directory, robot="ur5e")
    with pytest.raises(BundleError, match="is a policy bundle, a world_model bundle is needed"):
        Bundle.open(directory, kind="world_model")


def test_any_robot_fits_every_robot(tmp_path):
    write(tmp_path / "any", robot="any")
    assert Bundle.open(tmp_path / "any", robot="ur5e").robot == "any"


@pytest.mark.parametrize("version", [0, 2, "1", True, None])
def test_another_format_version_is_refused(directory, version):
    rewrite_manifest(directory, lambda document: document.update(format_version=version))
    with pytest.raises(BundleError, match="format_version"):
        Bundle.open(directory)


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../model.onnx", "a/model.onnx", "..", "model.pkl", "manifest.json", "a\\b.onnx", ""],
)
def test_a_path_that_leaves_the_bundle_is_refused(directory, name):
    def change(document):
        document["files"][name] = document["files"][MODEL]

    rewrite_manifest(directory, change)
    with pytest.raises(BundleError, match="not allowed"):
        Bundle.open(directory)


@pytest.mark.parametrize("name", [MODEL, MANIFEST])
def test_a_symbolic_link_is_refused(directory, tmp_path, name):
    (directory / name).rename(tmp_path / name)
    (directory / name).symlink_to(tmp_path / name)
    with pytest.raises(BundleError, match="symbolic link"):
        Bundle.open(directory)


@pytest.mark.parametrize("name", [MODEL, MANIFEST])
def test_a_hard_link_is_refused(directory, tmp_path, name):
    os.link(directory / name, tmp_path / "alias")
    with pytest.raises(BundleError, match="hard link"):
        Bundle.open(directory)


def test_a_pipe_in_place_of_a_file_does_not_block(directory):
    (directory / MODEL).unlink()
    os.mkfifo(directory / MODEL)
    with pytest.raises(BundleError, match="not a plain file"):
        Bundle.open(directory)


@pytest.mark.parametrize("name", [MODEL, MANIFEST])
def test_a_folder_in_place_of_a_file_is_refused_and_holds_nothing_open(directory, name):
    (directory / name).unlink()
    (directory / name).mkdir()
    before = os.listdir("/proc/self/fd")
    with pytest.raises(BundleError, match="Is a directory; a bundle holds plain files only"):
        Bundle.open(directory)
    assert os.listdir("/proc/self/fd") == before


def test_an_installed_bundle_is_found_by_name_and_may_be_linked(directory, tmp_path, monkeypatch, task):
    models = tmp_path / "share" / "models"
    (models / "cups" / "policy").mkdir(parents=True)
    for file in directory.iterdir():
        (models / "cups" / "policy" / file.name).symlink_to(file)
    monkeypatch.setattr(bundle_module, "share_directory", lambda: tmp_path / "share")
    monkeypatch.chdir(tmp_path)
    tall = replace(task, name="tall")  # another layout, read by the same definition
    assert Bundle.open("cups/policy").name == Bundle.open("policy", task=tall).name == "double"
    with pytest.raises(
        BundleError, match=r"does not say of which task\. Installed: cups/policy\. .* \./policy"
    ):
        Bundle.open("policy")
    with pytest.raises(BundleError, match="'' names no bundle"):
        Bundle.open("")  # not the current folder
    with pytest.raises(BundleError, match="task cups has no installed bundle ''"):
        Bundle.open("", task=task)
    with pytest.raises(
        BundleError, match=r"task cups has no installed bundle 'other'\. Installed: cups/policy"
    ):
        Bundle.open("other", task=task)
    (models / "cups" / "policy" / MODEL).unlink()
    (models / "cups" / "policy" / MODEL).write_bytes(b"something else")
    with pytest.raises(BundleError):
        Bundle.open("cups/policy")


def test_a_bundle_that_a_task_lacks_is_named_with_what_makes_one(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle_module, "share_directory", lambda: tmp_path)
    push = Task.load("push")
    with pytest.raises(
        BundleError, match=r"task push has no installed .*'policy': .*train policy .*--task push"
    ):
        Bundle.open("policy", task=push)
    with pytest.raises(BundleError, match=r"train world-model .*--world-model off .*Installed: none"):
        Bundle.open("world_model", task=push)


def test_a_name_of_two_meanings_is_refused(directory, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle_module, "share_directory", lambda: tmp_path / "share")
    shutil.copytree(directory, tmp_path / "share" / "models" / "push" / "policy")
    shutil.copytree(directory, tmp_path / "push" / "policy")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match=r"write \./push/policy for the directory"):
        Bundle.open("push/policy")
    assert Bundle.open("./push/policy").path == Path("push/policy")
    monkeypatch.chdir(tmp_path / "share" / "models")  # the same one
    assert Bundle.open("push/policy").path == tmp_path / "share" / "models" / "push" / "policy"


@pytest.mark.parametrize("name", ["..", ".", "/nowhere", ""])
def test_a_name_is_no_way_out_of_the_installed_models(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError):
        Bundle.open(name)


@pytest.mark.parametrize(
    "specs",
    [
        {"inputs": [TensorSpec("z", ("batch", 3), "m")]},
        {"inputs": [TensorSpec("x", ("batch", 4), "m")]},
        {"inputs": [TensorSpec("x", (1, 3), "m")]},
        {"inputs": [TensorSpec("x", ("batch", 3), "m", dtype="float64")]},
        {"outputs": [TensorSpec("y", ("batch",), "m")]},
        {"inputs": [TensorSpec("x", ("batch", 3), "m"), TensorSpec("more", (1,), "m")]},
    ],
)
def test_a_graph_that_differs_from_the_manifest_is_refused(tmp_path, specs):
    with pytest.raises(BundleError, match="the manifest says"):
        write(tmp_path / "b", **specs)
    assert not (tmp_path / "b").exists()


def test_weights_in_another_file_are_refused(tmp_path):
    with pytest.raises(BundleError, match="external data"):
        write(tmp_path / "b", model=doubling_model(external=True))


@pytest.mark.parametrize("model", [b"", b"not a model", b"\x80\x04K\x01.", b"\xff" * 64])
def test_what_is_no_model_is_refused(tmp_path, model):
    with pytest.raises(BundleError, match=MODEL):
        write(tmp_path / "b", model=model)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", '{"format_version": NaN}', '{"a": 1, "a": 2}', "[" * 100_000]
)
def test_a_manifest_that_is_no_manifest_is_refused(directory, text):
    (directory / MANIFEST).write_text(text)
    with pytest.raises(BundleError, match=MANIFEST):
        Bundle.open(directory)


ENTRIES = (
    "kind",
    "name",
    "robot",
    "inputs",
    "outputs",
    "config",
    "training_data",
    "metrics",
    "licence",
    "files",
)
WRONG_VALUES = (None, 3, [], "", [1], {"x": 1})
FREE_SECTIONS = ("config", "metrics")  # any mapping is right there


@pytest.mark.parametrize(
    ("key", "value"),
    [(k, v) for k in ENTRIES for v in WRONG_VALUES if not (k in FREE_SECTIONS and isinstance(v, dict))],
)
def test_every_entry_is_needed_and_checked(directory, key, value):
    rewrite_manifest(directory, lambda document: document.update({key: value}))
    with pytest.raises(BundleError, match=MANIFEST):
        Bundle.open(directory)


@pytest.mark.parametrize("std", [[0.0, 1, 1], [-1.0, 1, 1], [1.0, 1], ["a", 1, 1]])
def test_a_normalization_that_cannot_be_undone_is_refused(directory, std):
    def change(document):
        document["inputs"][0]["normalization"]["std"] = std

    rewrite_manifest(directory, change)
    with pytest.raises(BundleError, match="inputs"):
        Bundle.open(directory)


def test_numbers_that_are_not_finite_are_not_written(tmp_path):
    with pytest.raises(BundleError, match="finite"):
        write(tmp_path / "b", metrics={"success": float("nan")})


def test_a_file_that_changes_after_opening_changes_nothing(directory):
    bundle = Bundle.open(directory)
    shutil.rmtree(directory)
    assert bundle.session().run(["y"], {"x": np.ones((1, 3), np.float32)})[0].sum() == 6


def test_a_tensor_of_countless_axes_is_refused() -> None:
    with pytest.raises(BundleError, match="at most 8 axes, got 9"):
        TensorSpec("x", (1,) * 9, "1")
