"""The graph of a running stack against the table of topics (physai_ros/topics.py)."""

from __future__ import annotations

from typing import Any

from physai_ros import topics

# Of ROS itself, or of the tests.
ROS_OWN = ("parameter_events", "rosout", "transition_event", "_action/feedback", "_action/status")
IGNORED = (*ROS_OWN, "sway")

Policies = tuple[str, str]  # reliability, durability


def policies(profile: Any) -> Policies:
    return profile.reliability.name, profile.durability.name


def disagreements(node: Any, foreign: tuple[str, ...]) -> list[str]:
    """What the graph shows and the table does not, or otherwise, in words; nodes named `foreign` are not ours."""
    found = []
    for name, kinds in node.get_topic_names_and_types():
        if name.endswith(IGNORED):
            continue
        try:
            entry = topics.topic(name)
        except KeyError as error:
            found.append(str(error))
            continue
        if kinds != [entry.type]:
            found.append(f"{name}: declared as {entry.type}, but it is {kinds}")
        for info in node.get_publishers_info_by_topic(name):
            if info.node_name in foreign:
                continue
            if entry.offers is None or policies(info.qos_profile) != policies(entry.offers):
                found.append(f"{name}: {info.node_name} offers {policies(info.qos_profile)}")
        readers: dict[str, set[Policies]] = {}
        for info in node.get_subscriptions_info_by_topic(name):
            if info.node_name not in foreign:
                readers.setdefault(info.node_name, set()).add(policies(info.qos_profile))
        expected = {policies(profile) for profile in entry.hears}
        found += [f"{name}: {who} asks for {asked}" for who, asked in readers.items() if asked != expected]
    return found


def missing(node: Any, expected: set[str]) -> set[str]:
    """The declared names out of `expected` that are not in the graph yet."""
    names = [name for name, _ in node.get_topic_names_and_types()]
    return {name for name in expected if not any(topics.topic(name).matches(there) for there in names)}
