"""What perception waits for: which of its inputs is absent or late, by topic."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

PARTS = ("colour", "depth", "camera_info", "joint_states")
_IMAGES = PARTS[:2]
_OUTCOMES = 20  # images over which refusals are counted
_REFUSED_SHARE = 0.2
_OFTEN_BACK = 3  # of those images
_LATE_S = 0.5  # behind the joint states


@dataclass(frozen=True)
class Missing:
    """A condition: its stable name, its sentence, and since when (steady time)."""

    name: str
    text: str
    since_s: float


class InputWatch:
    """Remembers when each input last came; `topics` names them by part, `publishers` counts who publishes a topic."""

    def __init__(
        self, camera: str, topics: dict[str, str], timeout_s: float, publishers: Callable[[str], int]
    ) -> None:
        self._camera, self._topics = camera, topics
        self._timeout_s, self._publishers = timeout_s, publishers
        self._never = set(PARTS)
        self.foreign = ""
        """Joints that messages of joint states name, none of which is the robot's; empty: there is no such message."""
        self.restart(0.0)

    def restart(self, now_s: float) -> None:
        """Wait for everything anew; calibration that has come stays true."""
        self._seen = dict.fromkeys(PARTS, now_s)
        self._never = {"colour", "depth", "joint_states"} | (
            {"camera_info"} if "camera_info" in self._never else set()
        )
        self._outcomes: deque[str] = deque(maxlen=_OUTCOMES)
        self._ran_back: deque[bool] = deque(maxlen=_OUTCOMES)
        self._joints: deque[str] = deque(maxlen=_OUTCOMES)

    def arrived(self, part: str, now_s: float) -> None:
        """One came."""
        self._seen[part] = now_s
        self._never.discard(part)

    def evaluated(self, refusal: str, ran_back: bool = False) -> None:
        """An image gave a scene, or was refused for this reason; `ran_back`: it was stamped long before the last one."""
        self._outcomes.append(refusal)
        self._ran_back.append(ran_back)

    def missing(self, now_s: float) -> list[Missing]:
        """What has been absent for longer than the timeout; a camera of which nothing comes is one thing, not three."""
        late = [part for part in PARTS if now_s - self._seen[part] > self._timeout_s]
        if "camera_info" not in self._never and "camera_info" in late:
            late.remove("camera_info")  # some drivers send it once
        if not set(_IMAGES) <= set(late):
            return [self._one(part) for part in late]
        since_s = max(self._seen[part] for part in _IMAGES)
        names = [self._topics[part] for part in _IMAGES]
        text = f"no image from camera {self._camera!r} for more than {self._timeout_s:g} s ({', '.join(names)}): {self._hint(names)}"
        return [
            Missing("camera_absent", text, since_s),
            *(self._one(part) for part in late if part not in _IMAGES),
        ]

    def _one(self, part: str) -> Missing:
        topic, since_s = self._topics[part], self._seen[part]
        what = {"colour": "no colour image", "depth": "no depth image"}.get(part, f"no {part}")
        ever = "at all" if part in self._never else "any more"
        hint = self._hint([topic])
        if part == "joint_states" and self.foreign:
            what, hint = "no joint state of the robot file's joints", f"what comes there is of {self.foreign}"
        text = f"{what} on {topic} {ever}, for more than {self._timeout_s:g} s: {hint}"
        return Missing(f"{part}_absent", text, since_s)

    def _hint(self, topics: list[str]) -> str:
        if not any(self._publishers(topic) for topic in topics):
            return "nobody publishes it; is the driver running, and are names and namespaces right?"
        return "it has a publisher that sends nothing, or with another quality of service; look at the driver's log"

    def refusals(self) -> str:
        """That images are refused again and again though some give a scene, or nothing."""
        outcomes = tuple(self._outcomes)  # another thread appends
        refused = [reason for reason in outcomes if reason]
        if len(outcomes) < _OUTCOMES or len(refused) < _REFUSED_SHARE * len(outcomes):
            return ""
        return f"{len(refused)} of the last {len(outcomes)} images gave no scene, the last one because: {refused[-1]}{self._several()}"

    def joint_state(self, refusal: str) -> str:
        """A joint state was used, or refused for this reason: that too many of the last ones were refused, or nothing."""
        self._joints.append(refusal)
        refused = [reason for reason in self._joints if reason]
        if len(refused) < max(1, _REFUSED_SHARE * len(self._joints)):
            return ""
        some = (
            f" ({len(refused)} of the last {len(self._joints)})" if len(refused) < len(self._joints) else ""
        )
        return f"{self._topics['joint_states']}: {refused[-1]}{some}"

    def back_and_forth(self) -> str:
        """That stamps run back again and again, so that perception begins anew each time, or nothing."""
        times = sum(tuple(self._ran_back))
        if times < _OFTEN_BACK:
            return ""
        return (
            f"the stamps on {self._topics['colour']} ran back {times} times in {len(self._ran_back)} images, and each time everything "
            f"seen is forgotten{self._several() or ': let one clock stamp them'}"
        )

    def _several(self) -> str:
        """That more than one program publishes images or their calibration, or nothing."""
        several = [self._topics[part] for part in PARTS[:3] if self._publishers(self._topics[part]) > 1]
        return (
            f"; more than one program publishes {' and '.join(several)}: end all but one" if several else ""
        )


def clocks(image_ns: int, joints_ns: int | None, camera_topic: str, joints_topic: str) -> str:
    """Why an image still waits for the joint states at its stamp."""
    if joints_ns is None:
        return f"images on {camera_topic} wait for a first joint state on {joints_topic} that can be used"
    ahead_s = (image_ns - joints_ns) * 1e-9
    return (
        f"the stamps of {camera_topic} are {ahead_s:.1f} s ahead of the newest on {joints_topic}: set the clocks of camera and "
        "robot alike (NTP, PTP), or look why joint states are late"
    )


def behind(image_ns: int, joints_ns: int, camera_topic: str, joints_topic: str) -> str:
    """That images are old when they come, or nothing."""
    late_s = (joints_ns - image_ns) * 1e-9
    if late_s < _LATE_S:
        return ""
    return (
        f"images on {camera_topic} are {late_s:.1f} s older than the newest joint state on {joints_topic}: the camera's clock is "
        "behind, or its images come late"
    )
