"""A flow policy that sees with cameras: images, what the arm feels, and the goal; no pose of any object."""

from __future__ import annotations

import numpy as np

from physai_base.bundle import Bundle
from physai_base.errors import PolicyError
from physai_base.task import Task
from physai_policy.flow_policy import FlowPolicy
from physai_policy.images import View
from physai_policy.policy import Observation

# What is left of a task's features for an image and the arm's own state: all but how fast the target moves.
UNSEEN = "target_velocity."
STATE = ("tcp.x", "tcp.y", "tcp.z", "tcp_velocity.x", "tcp_velocity.y", "tcp_velocity.z", "gripper.width")


def seen_feature_names(task: Task) -> tuple[str, ...]:
    """Names of the features that the network works out from images, in order; its arithmetic, not its input."""
    return tuple(name for name in task.feature_names() if not name.startswith(UNSEEN))


def state_vector(tool_m: np.ndarray, tool_velocity_m_s: np.ndarray, gripper_width_m: float) -> np.ndarray:
    """(7,) float32, named by `STATE`."""
    return np.array([*tool_m, *tool_velocity_m_s, gripper_width_m], np.float32)


def goal_vector(target: str, destination: str, task: Task) -> np.ndarray:
    """(objects + places,) float32: 1 for the object to fetch and for the level to put it on.

    Raises:
        PolicyError: the task has no such object or level.
    """
    labels = task.objects + task.places
    if target not in task.objects or destination not in task.places:
        raise PolicyError(f"the policy knows {', '.join(labels)}; it was asked for {target} to {destination}")
    return np.isin(labels, (target, destination)).astype(np.float32)


class VisionPolicy(FlowPolicy):
    """A `FlowPolicy` whose graph begins with images; the bundle's `config.images` says of which cameras and what part."""

    takes_features = False
    _looks = True

    def _feature_names(self, task: Task) -> tuple[str, ...]:
        return seen_feature_names(task)

    def _prepare(self, bundle: Bundle, task: Task) -> None:
        self._task = task
        self._views = tuple(View.parse(view) for view in bundle.config["images"])
        self.cameras = tuple(view.camera for view in self._views)

    def _seen(self, observation: Observation) -> dict[str, np.ndarray]:
        """The graph's inputs that tell of the observation.

        Raises:
            PolicyError: an image is missing or too small, or there is no goal.
        """
        missing = [camera for camera in self.cameras if camera not in observation.images]
        if missing:
            raise PolicyError(
                f"the observation has no image of camera {', '.join(missing)}; the policy needs it"
            )
        if observation.goal is None:
            raise PolicyError("the policy needs to know which object to fetch and where to put it")
        state = state_vector(observation.tool_m, observation.tool_velocity_m_s, observation.gripper_width_m)
        goal = goal_vector(observation.goal.target, observation.goal.destination, self._task)
        images = {view.camera: view.apply(observation.images[view.camera])[None] for view in self._views}
        return {**images, "state": state[None], "goal": goal[None]}
