"""From what a person names, a bundle or the file of a remote policy, to a `Policy`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from physai_base.bundle import Bundle
from physai_base.bundles.interface import Interface
from physai_base.embodiment import Embodiment
from physai_base.task import Task
from physai_policy.flow_policy import FlowPolicy
from physai_policy.mapped import MappedPolicy, ModelMapping
from physai_policy.policy import ActionSpace, Policy
from physai_policy.remote.client import RemotePolicy
from physai_policy.remote.config import RemoteConfig
from physai_policy.remote.mapping import cameras_in
from physai_policy.runtimes import RuntimeOptions
from physai_policy.shared import tasks_of
from physai_policy.vision import VisionPolicy


def is_remote(name: str | Path) -> bool:
    """Whether `name` is the file of a remote policy; everything else is a bundle."""
    return Path(name).suffix in (".yaml", ".yml")


def load_policy(
    name: str | Path,
    embodiment: Embodiment,
    task: Task,
    runtime: str = "onnx",
    options: RuntimeOptions | None = None,
) -> Policy:
    """The policy that `name` stands for: an installed bundle of that or another task, a bundle's directory, or a remote policy's YAML file.

    `runtime` and `options` are for what is computed here; a remote policy's server has its own.

    Raises:
        BundleError: the bundle is damaged, or was made for another robot or task.
        RemoteError: the file is not as docs/howto/remote.md says.
    """
    if is_remote(name):
        return RemotePolicy(RemoteConfig.load(name), embodiment)
    bundle = Bundle.open(name, kind="policy", robot=embodiment, task=task)
    if "mapping" in bundle.config:
        return MappedPolicy(bundle, embodiment, task, runtime, options)
    if "images" in bundle.config:
        return VisionPolicy(bundle, task, runtime, options)
    return FlowPolicy(bundle, task, runtime, options)


def interface_of(kind: str, config: Mapping[str, Any], embodiment: Embodiment, task: Task) -> Interface:
    """What a bundle of that kind and configuration needs of a robot when it was made with that one.

    Our own networks have seen the openings that their tasks' experts command, others whatever the robot's gripper can do.
    """
    tasks = [Task.load(name) for name in tasks_of(config)] or [task]
    seen = np.array([one.expert(embodiment).openings for one in tasks])
    openings = None if "mapping" in config else (float(seen[:, 0].min()), float(seen[:, 1].max()))
    if kind == "doubt":  # it acts on nothing
        return Interface.of(embodiment, "none", openings=openings)
    if kind != "policy":
        return Interface.of(embodiment, ActionSpace.TOOL_POSITION.value, openings=openings)
    if "mapping" in config:
        mapping = ModelMapping.parse(config["mapping"], embodiment)
        return Interface.of(embodiment, mapping.actions.space.value, cameras_in(mapping.observation))
    views = config.get("images") or ()
    return Interface.of(embodiment, config["action_space"], [view["camera"] for view in views], openings)


def where_it_runs(policy: Policy) -> str:
    """For a person: "in" what runtime, or "at" what address."""
    if isinstance(policy, FlowPolicy | MappedPolicy):
        return f"in {policy.runtime.detail}"
    return f"at {policy.config.address}" if isinstance(policy, RemotePolicy) else "somewhere else"
