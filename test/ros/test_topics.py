"""Who is heard and who can listen: every declared topic against every kind of publisher and reader."""

from __future__ import annotations

import ast
import itertools
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import rclpy
from paths import ROOT
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data

from physai_ros import qos, topics

pytestmark = pytest.mark.ros
_domains = itertools.count(10 + os.getpid() % 40)

OFFERS = {
    f"{reliability.name} {durability.name}".lower(): QoSProfile(
        depth=10, reliability=reliability, durability=durability
    )
    for reliability in (ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT)
    for durability in (DurabilityPolicy.VOLATILE, DurabilityPolicy.TRANSIENT_LOCAL)
}
LATCHED = "reliable transient_local"  # the one that the middleware gives to late readers
HEARD = [entry for entry in topics.TOPICS if entry.hears and not entry.in_c]
SAID = [entry for entry in topics.TOPICS if entry.offers is not None and not entry.in_c]
SENSOR_ALONE = {"camera/*/image_raw", "camera/*/depth/image_rect_raw"}


def name_of(entry: topics.Topic) -> str:
    return entry.name.replace("*", "overview")


class Pair:
    """Two nodes in a domain of their own, ours and somebody else's."""

    def __init__(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=next(_domains))
        self.ours = rclpy.create_node("ours", context=self.context)
        self.theirs = rclpy.create_node("theirs", context=self.context)
        self.executor = rclpy.executors.SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.ours)
        self.executor.add_node(self.theirs)

    def until(self, condition: Callable[[], bool], what: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, what()
            self.executor.spin_once(timeout_sec=0.05)

    def close(self) -> None:
        self.executor.shutdown()
        self.ours.destroy_node()
        self.theirs.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def pair() -> Iterator[Pair]:
    one = Pair()
    yield one
    one.close()


@pytest.mark.parametrize("kind", OFFERS)
def test_whatever_others_may_send_is_heard_once_however_they_publish_it(pair: Pair, kind: str) -> None:
    heard: dict[str, int] = {}
    publishers = []
    for entry in HEARD:
        topics.hear(pair.ours, name_of(entry), lambda _, n=entry.name: heard.update({n: heard.get(n, 0) + 1}))
        publishers.append(
            (entry, pair.theirs.create_publisher(entry.message(), name_of(entry), OFFERS[kind]))
        )
    fits = {entry.name: sum(qos_fits(OFFERS[kind], reader) for reader in entry.hears) for entry in HEARD}
    assert all(fits.values()), fits
    pair.until(
        lambda: all(p.get_subscription_count() >= fits[entry.name] for entry, p in publishers),
        lambda: [entry.name for entry, p in publishers if p.get_subscription_count() < fits[entry.name]],
    )
    heard.clear()
    for _ in range(3):
        for entry, publisher in publishers:
            publisher.publish(entry.message()())
        before = dict(heard)
        pair.until(
            lambda before=before: all(heard.get(e.name, 0) > before.get(e.name, 0) for e in HEARD),
            lambda: (kind, heard),
        )
    for _ in range(10):  # what other readers bring comes now
        pair.executor.spin_once(timeout_sec=0.02)
    assert heard == {entry.name: 3 for entry in HEARD}


def qos_fits(offer: QoSProfile, reader: QoSProfile) -> bool:
    order = {"BEST_EFFORT": 0, "RELIABLE": 1, "VOLATILE": 0, "TRANSIENT_LOCAL": 1}
    return all(
        order[getattr(offer, policy).name] >= order[getattr(reader, policy).name]
        for policy in ("reliability", "durability")
    )


def test_what_was_latched_before_is_heard_where_it_is_true_still_and_nowhere_else(pair: Pair) -> None:
    """A pressed emergency stop, yes; an instruction to a policy that was started anew, no."""
    heard: set[str] = set()
    for entry in HEARD:
        publisher = pair.theirs.create_publisher(entry.message(), name_of(entry), OFFERS[LATCHED])
        publisher.publish(entry.message()())
    for entry in HEARD:
        topics.hear(pair.ours, name_of(entry), lambda _, n=entry.name: heard.add(n))
    kept = {entry.name for entry in HEARD if qos.KEPT in entry.hears}
    assert kept == {
        "estop",
        "task",
        "camera/*/camera_info",
        "camera/*/depth/camera_info",
        "supervisor/status",
    }
    pair.until(lambda: kept <= heard, lambda: heard)
    for _ in range(10):
        pair.executor.spin_once(timeout_sec=0.05)
    assert heard == kept


def test_several_publishers_do_not_hide_each_other(pair: Pair) -> None:
    """Two buttons that speak in the same moment, before anybody has time to listen."""
    heard: list[bool] = []
    topics.hear(pair.ours, "estop", lambda message: heard.append(message.data))
    kind = topics.topic("estop").message()
    buttons = [pair.theirs.create_publisher(kind, "estop", offer) for offer in OFFERS.values()]
    pair.until(lambda: all(button.get_subscription_count() for button in buttons), lambda: "discovery")
    for index, button in enumerate(buttons):
        button.publish(kind(data=index == 0))
    pair.until(lambda: len(heard) == len(buttons), lambda: heard)
    assert heard.count(True) == 1


# How others listen: rclpy's and rclcpp's default, sensor data, and what rviz2 and rosbag2 ask for unless told otherwise.
# rviz2's displays: reliable, volatile, depth 5. rosbag2 records with what the publishers offer, so it always matches.
READERS = {
    "default": QoSProfile(depth=10),
    "sensor data": qos_profile_sensor_data,
    "rviz2": QoSProfile(depth=5),
}


def test_what_we_say_reaches_default_readers_and_sensor_readers(pair: Pair) -> None:
    heard: set[tuple[str, str]] = set()
    publishers = [
        (entry, topics.advertise(pair.ours, name_of(entry))) for entry in SAID if "sim/" not in entry.name
    ]
    for entry, _ in publishers:
        for reader, profile in READERS.items():
            key = (entry.name, reader)
            pair.theirs.create_subscription(
                entry.message(), name_of(entry), lambda _, key=key: heard.add(key), profile
            )
    wanted = {
        (entry.name, reader)
        for entry, _ in publishers
        for reader in READERS
        if entry.name not in SENSOR_ALONE or reader == "sensor data"
    }

    def publish() -> bool:
        for entry, publisher in publishers:
            publisher.publish(entry.message()())
        return wanted <= heard

    pair.until(publish, lambda: wanted - heard)
    assert heard == wanted  # images: sensor data alone, as the documentation says


@pytest.mark.parametrize(
    "offer",
    [
        QoSProfile(depth=10),
        qos.STATUS,
        qos.SENSOR,
        QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL),
    ],
    ids=["rosbag2 without the recorded profile", "rosbag2 of ours", "rosbag2 of a camera", "latched"],
)
def test_joint_states_that_a_recording_replays_are_heard(pair: Pair, offer: QoSProfile) -> None:
    """rosbag2 plays with the recorded offer, or with reliable, volatile, depth 10 where there is none or several."""
    heard: list[Any] = []
    topics.hear(pair.ours, "joint_states", heard.append)
    kind = topics.topic("joint_states").message()
    replay = pair.theirs.create_publisher(kind, "joint_states", offer)

    def play() -> bool:
        replay.publish(kind())
        return bool(heard)

    pair.until(play, lambda: "nothing heard")


def test_a_topic_that_is_not_declared_can_be_neither_published_nor_heard(pair: Pair) -> None:
    node: Node = pair.ours
    with pytest.raises(KeyError, match="'thoughts' is not declared"):
        topics.advertise(node, "thoughts")
    with pytest.raises(KeyError, match="'thoughts' is not declared"):
        topics.hear(node, "thoughts", print)
    with pytest.raises(KeyError, match="'estop' is declared as published by others"):
        topics.advertise(node, "estop")


MADE = ("create_publisher", "create_subscription")


def test_nodes_publish_and_listen_by_the_table_alone() -> None:
    """A program in a text, which doctor starts to see whether anything is heard here, is no node of the stack."""
    root = ROOT
    own = {"physai_ros/topics.py", "physai_ros/lifecycle_node.py", "physai_ros/place.py"}
    for path in sorted(root.glob("physai_*/**/*.py")):
        place = str(path.relative_to(root))
        if place not in own:
            calls = [
                node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
            ]
            found = [call.attr for call in calls if isinstance(call, ast.Attribute) and call.attr in MADE]
            assert not found, f"{place}: use topics.advertise and topics.hear"


def test_the_documentation_lists_every_topic() -> None:
    page = (ROOT / "docs/reference/architecture.md").read_text()
    rows = {cells[1].strip(): cells for line in page.splitlines() if len(cells := line.split("|")) == 7}
    offers = (
        (qos.STATUS, "reliable"),
        (qos.COMMAND, "reliable"),
        (qos.TF, "reliable"),
        (qos.LATCHED, "latched"),
        (qos.SENSOR, "sensor data"),
    )
    hears = (
        (topics.NEWEST, "all"), (topics.ALL, "all"), ((qos.HEARTBEATS,), "all"), (topics.EACH, "each"),
        (topics.KEPT, "all, kept"), (topics.EACH_AND_KEPT, "each, kept"),
    )  # fmt: skip
    for entry in topics.TOPICS:
        row = rows.get(f"`{entry.name}`")
        assert row, f"{entry.name} is not in docs/reference/architecture.md"
        said = next((word for profile, word in offers if profile is entry.offers), "")
        asked = next((word for profiles, word in hears if profiles == entry.hears), "")
        assert (row[2].strip(), row[4].strip(), row[5].strip()) == (entry.type, said, asked), entry.name


def test_the_remembered_count_of_a_publisher_decides_what_is_new() -> None:
    once = topics.Once()
    gid = {"implementation_identifier": "x", "data": b"a" * 16}
    other = {"implementation_identifier": "x", "data": b"b" * 16}
    say = lambda number, who=gid: once.is_new({"publisher_gid": who, "publication_sequence_number": number})  # noqa: E731
    assert [say(1), say(1), say(3), say(2), say(3), say(4)] == [True, False, True, False, False, True]
    assert [say(1, other), say(1, other)] == [True, False]
    for index in range(2 * topics.MAX_PUBLISHERS):
        say(1, {"implementation_identifier": "x", "data": index.to_bytes(16, "big")})
    assert len(once._last) == topics.MAX_PUBLISHERS
    stamped = {"publisher_gid": None, "publication_sequence_number": None, "source_timestamp": 5}
    assert [once.is_new(stamped), once.is_new(stamped)] == [True, False]
    unknown = {"publisher_gid": None, "publication_sequence_number": None, "source_timestamp": 0}
    assert once.is_new(unknown) and once.is_new(unknown)


def test_where_late_messages_count_each_is_handed_on_once_in_whatever_order_it_comes() -> None:
    """The reliable reader brings a pressed stop that the best-effort one has lost, after its release."""
    once = topics.Once(topics.topic("estop").late)
    say = lambda number, who=b"a" * 16: once.is_new(  # noqa: E731
        {"publisher_gid": {"data": who}, "publication_sequence_number": number}
    )
    assert [say(4), say(6), say(5), say(6), say(5), say(4)] == [True, True, True, False, False, False]
    assert say(5, b"b" * 16)
    unnamed = lambda sent_ns, number: once.is_new(  # noqa: E731
        {"source_timestamp": sent_ns, "publication_sequence_number": number}
    )
    assert [unnamed(60, 6), unnamed(50, 5), unnamed(60, 6), unnamed(50, 5)] == [True, True, False, False]
    assert [entry.name for entry in topics.TOPICS if entry.late] == ["estop"]
