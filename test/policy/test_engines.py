"""Engines: built from the verified graph in the precision that was asked, kept where nobody else can write."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from physai_base.bundle import Bundle
from physai_base.errors import BundleError
from physai_lab.cli import main
from physai_policy.runtimes import RuntimeOptions
from physai_policy.runtimes.engine import check_precision, engine_key, layer_precisions, precision_of
from physai_policy.runtimes.engine_cache import EngineCache, EngineError, EngineKey
from physai_policy.runtimes.precision import convert

pytestmark = pytest.mark.slow

KEY = EngineKey("ab" * 32, "tensorrt", "10.3.0", "Orin sm8.7 aarch64", "fp16", (("batch", 8),))
ENGINE = bytes(range(256)) * 16
# TensorRT-RTX has wheels for this machine type alone.
needs_rtx = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="TensorRT-RTX has wheels for x86-64 only"
)


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    cache = EngineCache(tmp_path / "engines")
    cache.store(KEY, ENGINE, {"bundle": "policy"})
    return cache


def test_what_was_stored_comes_back(cache: EngineCache) -> None:
    engine, note = EngineCache(cache.directory).load(KEY)
    assert engine == ENGINE and note["bundle"] == "policy"
    assert cache.directory.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in cache.directory.iterdir())


def test_the_caches_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        cache = EngineCache(tmp_path / "engines")
        cache.store(KEY, ENGINE, {})
    finally:
        os.umask(before)
    assert cache.load(KEY)[0] == ENGINE


@pytest.mark.parametrize(
    "change",
    [
        {"onnx_sha256": "cd" * 32}, {"library": "tensorrt_rtx"}, {"version": "10.13.3"}, {"target": "Thor sm11.0 aarch64"},
        {"precision": "fp32"}, {"sizes": (("batch", 1),)},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_an_engine_is_for_one_key_alone(cache: EngineCache, change: dict[str, object]) -> None:
    other = replace(KEY, **change)  # type: ignore[arg-type]
    with pytest.raises(EngineError, match="no engine for this graph"):
        cache.load(other)
    # Nor does it pass under the other's name, as a file copied from another robot would.
    cache.path(KEY).rename(cache.path(other))
    cache.note_path(KEY).rename(cache.note_path(other))
    with pytest.raises(EngineError, match="describes another engine"):
        cache.load(other)


@pytest.mark.parametrize("where", [0, 2000, len(ENGINE) - 1])
def test_a_flipped_bit_is_noticed(cache: EngineCache, where: int) -> None:
    damaged = bytearray(ENGINE)
    damaged[where] ^= 1
    cache.path(KEY).write_bytes(damaged)
    with pytest.raises(EngineError, match="damaged"):
        cache.load(KEY)


@pytest.mark.parametrize("content", [b"", ENGINE[:-1], ENGINE + b"\0"], ids=["empty", "short", "long"])
def test_another_length_is_noticed(cache: EngineCache, content: bytes) -> None:
    cache.path(KEY).write_bytes(content)
    with pytest.raises(EngineError, match="damaged"):
        cache.load(KEY)


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b"{}", b"\xff", b"null", b"[" * 100_000])
def test_a_damaged_note_is_noticed(cache: EngineCache, note: bytes) -> None:
    cache.note_path(KEY).write_bytes(note)
    with pytest.raises(EngineError, match="damaged"):
        cache.load(KEY)


def test_half_of_a_pair_is_not_an_engine(cache: EngineCache) -> None:
    engine = cache.path(KEY).read_bytes()
    cache.path(KEY).unlink()
    with pytest.raises(EngineError, match="No such file"):
        cache.load(KEY)
    cache.path(KEY).write_bytes(engine)
    cache.note_path(KEY).unlink()
    with pytest.raises(EngineError, match="No such file"):
        cache.load(KEY)


def test_an_engine_that_replaces_another_is_whole(
    cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A builder that dies between its two files leaves no pair that would be believed."""
    replacing = os.replace
    written: list[str] = []

    def dies_at_the_second(source: str, target: Path) -> None:
        written.append(str(target))
        if len(written) == 2:
            raise KeyboardInterrupt
        replacing(source, target)

    monkeypatch.setattr(os, "replace", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        cache.store(KEY, ENGINE[::-1], {})
    monkeypatch.undo()
    with pytest.raises(EngineError):
        cache.load(KEY)
    assert not [path for path in cache.directory.iterdir() if path.name.startswith(".")]
    cache.store(KEY, ENGINE[::-1], {})
    assert cache.load(KEY)[0] == ENGINE[::-1]


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o701, 0o750])
def test_a_directory_that_others_may_use_is_refused(cache: EngineCache, mode: int) -> None:
    cache.directory.chmod(mode)
    with pytest.raises(EngineError, match=f"mode {mode:o}.*chmod 700"):
        EngineCache(cache.directory)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o640, 0o604])
def test_files_that_others_may_use_are_refused(cache: EngineCache, mode: int) -> None:
    for path in (cache.path(KEY), cache.note_path(KEY)):
        path.chmod(mode)
        with pytest.raises(EngineError, match=f"mode {mode:o}.*chmod 600"):
            cache.load(KEY)
        path.chmod(0o600)


def test_what_belongs_to_another_user_is_refused(cache: EngineCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: cache.directory.stat().st_uid + 1)
    with pytest.raises(EngineError, match="belongs to user"):
        EngineCache(cache.directory)
    with pytest.raises(EngineError, match="belongs to user"):
        cache.load(KEY)


def test_links_are_refused(cache: EngineCache, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(cache.directory)
    with pytest.raises(EngineError, match="not a directory of its own"):
        EngineCache(link)
    elsewhere = tmp_path / "elsewhere"
    cache.path(KEY).rename(elsewhere)
    cache.path(KEY).symlink_to(elsewhere)
    with pytest.raises(EngineError, match="symbolic link"):
        cache.load(KEY)
    cache.path(KEY).unlink()
    os.link(elsewhere, cache.path(KEY))
    with pytest.raises(EngineError, match="not a file of its own"):
        cache.load(KEY)
    cache.path(KEY).unlink()
    os.mkfifo(cache.path(KEY), 0o600)
    with pytest.raises(EngineError, match="not a file of its own"):
        cache.load(KEY)
    cache.path(KEY).unlink()
    cache.path(KEY).mkdir(0o700)
    with pytest.raises(EngineError, match="Is a directory"):
        cache.load(KEY)


# Precision -------------------------------------------------------------------------------------------------


def outputs_of(model: bytes, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return list(session.run(None, inputs))


@pytest.mark.parametrize("name", ["policy", "world_model"])
def test_half_precision_computes_the_same_to_its_accuracy(name: str) -> None:
    bundle, rng = Bundle.open(f"cups/{name}"), np.random.default_rng(0)
    inputs = {
        spec.name: rng.uniform(0, 0.3, [4 if size == "batch" else size for size in spec.shape]).astype(
            np.float32
        )
        for spec in bundle.inputs
    }
    half = convert(bundle.model, "fp16")
    assert len(half) < 0.7 * len(bundle.model)  # the weights, too
    for expected, actual in zip(outputs_of(bundle.model, inputs), outputs_of(half, inputs), strict=True):
        assert actual.dtype == np.float32
        assert not np.array_equal(actual, expected)
        cosine = np.vdot(actual, expected) / np.linalg.norm(actual) / np.linalg.norm(expected)
        assert cosine >= 0.999


def test_fp32_is_the_graph_itself() -> None:
    model = Bundle.open("cups/policy").model
    assert convert(model, "fp32") is model


def test_bf16_names_bf16_and_keeps_inputs_and_outputs() -> None:
    import onnx

    document = onnx.load_model_from_string(convert(Bundle.open("cups/policy").model, "bf16"))
    weights = {tensor.data_type for tensor in document.graph.initializer}
    assert onnx.TensorProto.BFLOAT16 in weights and onnx.TensorProto.FLOAT not in weights
    ends = [*document.graph.input, *document.graph.output]
    assert {value.type.tensor_type.elem_type for value in ends} == {onnx.TensorProto.FLOAT}


def test_fp8_needs_a_quantized_graph() -> None:
    with pytest.raises(BundleError, match="ModelOpt"):
        convert(Bundle.open("cups/policy").model, "fp8")


@pytest.mark.parametrize(
    ("text", "precision"),
    [
        ("Row major linear FP16 format", "fp16"), ("Half", "fp16"), ("Row major linear FP32", "fp32"), ("Float", "fp32"),
        ("Row major linear BFloat16 format", "bf16"), ("BF16", "bf16"), ("Channel major FP8 format", "fp8"),
        ("Row major Int8 format", ""), ("", ""),
    ],
)  # fmt: skip
def test_types_in_the_inspectors_words(text: str, precision: str) -> None:
    assert precision_of(text) == precision


def test_a_silent_fall_back_is_reported() -> None:
    def layer(kind: str) -> dict[str, object]:
        return {"Name": "gemm", "Outputs": [{"Name": "x", "Format/Datatype": kind}]}

    fell_back = layer_precisions(json.dumps({"Layers": [layer("Float"), layer("Row major linear FP32")]}))
    assert fell_back == {"fp32": 2}
    with pytest.raises(EngineError, match=r"nothing in fp16.*2 in fp32"):
        check_precision("fp16", fell_back, "the engine")
    check_precision(
        "fp16", layer_precisions(json.dumps({"Layers": [layer("Half"), layer("Float")]})), "the engine"
    )
    with pytest.raises(EngineError, match="names no types"):
        layer_precisions(json.dumps({"Layers": ["gemm", "softmax"]}))  # what a build without details gives


# TensorRT-RTX, which builds without a GPU ---------------------------------------------------------------------


def build(out: Path, *more: str) -> int:
    return main(
        ["build-engine", "policy", "--rtx", "--compute-capability", "8.6,12.0", "--output", str(out), *more]
    )


def only_note(out: Path) -> dict[str, object]:
    (path,) = out.glob("*.json")
    return dict(json.loads(path.read_text()))


@needs_rtx
def test_an_engine_is_built_from_the_shipped_graph(tmp_path: Path) -> None:
    single, half = tmp_path / "single", tmp_path / "half"
    assert build(single) == 0 and build(half, "--precision", "fp16") == 0
    notes = {out.name: only_note(out) for out in (single, half)}
    # 5 steps of 8 matrix products, all in the precision that was asked.
    assert notes["single"]["network_layers"] == {"fp32": 40} and notes["half"]["network_layers"] == {
        "fp16": 40
    }
    assert int(str(notes["half"]["size"])) < 0.75 * int(str(notes["single"]["size"]))  # the weights, too


@needs_rtx
def test_an_engine_is_built_once_and_again_when_it_is_not_to_be_trusted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "engines"
    assert build(out) == 0
    (path,) = out.glob("*.engine")
    built = path.stat().st_mtime_ns
    assert build(out) == 0
    assert "there already" in capsys.readouterr().out and path.stat().st_mtime_ns == built
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert build(out) == 0
    assert "is damaged" in capsys.readouterr().out and path.stat().st_mtime_ns > built
    path.chmod(0o666)
    assert build(out) == 0
    assert "others may use it" in capsys.readouterr().out and path.stat().st_mode & 0o777 == 0o600
    out.chmod(0o777)
    assert build(out) == 1
    assert "chmod 700" in capsys.readouterr().err


@needs_rtx
def test_targets_that_it_does_not_build_for_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["build-engine", "policy", "--output", str(tmp_path / "e"), "--compute-capability", "8.7"]
    assert main(arguments) == 1
    assert "add --rtx" in capsys.readouterr().err
    assert main([*arguments, "--rtx"]) == 1
    assert "'8.7'" in capsys.readouterr().err


def test_a_size_that_the_graph_does_not_name_makes_no_other_key() -> None:
    """What builds an engine and what runs it may know of different sizes."""
    whole = Bundle.open("cups/vision_policy", kind="policy")  # one observation, fixed
    keys = {engine_key(whole, RuntimeOptions(sizes=sizes), onnxruntime, "t") for sizes in ({}, {"batch": 8})}
    assert len(keys) == 1
    free = Bundle.open("cups/policy", kind="policy")
    assert engine_key(free, RuntimeOptions(sizes={"batch": 8}), onnxruntime, "t").sizes == (("batch", 8),)


def test_without_an_engine_the_runtime_says_how_to_build_one(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"no engine for this graph in fp16.*physai build-engine"):
        EngineCache(tmp_path / "new").load(KEY)
    assert RuntimeOptions().cache == ""
