"""Headers of everything that a running stack says, held against its frames and its clock."""

from __future__ import annotations

from typing import Any

from physai_ros import conversions, topics


class Headers:
    """Listens to every declared topic of ours; `cameras` stand for the `*` in names."""

    def __init__(self, node: Any, cameras: tuple[str, ...] = ("overview", "wrist")) -> None:
        self._node = node
        self.frames: dict[str, set[str]] = {}  # by topic
        self.stamps_ns: dict[str, list[int]] = {}
        self.parents: dict[str, str] = {}
        self._images: dict[str, Any] = {}
        for entry in topics.TOPICS:
            if entry.offers is None or entry.in_c:
                continue
            kind = entry.message()
            for name in {entry.name.replace("*", camera) for camera in cameras}:
                if hasattr(kind(), "transforms"):
                    self._listen(entry, name, self._on_tf)
                elif hasattr(kind(), "header"):
                    self._listen(entry, name, lambda message, name=name: self._on(name, message.header))

    def _listen(self, entry: topics.Topic, name: str, callback: Any) -> None:
        name = f"/{name}" if name == "diagnostics" else name
        subscription = self._node.create_subscription(entry.message(), name, callback, entry.offers)
        if "image" in name:
            self._images[name] = subscription

    def _on_tf(self, message: Any) -> None:
        for transform in message.transforms:
            assert self.parents.setdefault(transform.child_frame_id, transform.header.frame_id) == (
                transform.header.frame_id
            ), f"{transform.child_frame_id} has two parents"
            self._on("tf", transform.header)

    def _on(self, name: str, header: Any) -> None:
        self.frames.setdefault(name, set()).add(header.frame_id)
        self.stamps_ns.setdefault(name, []).append(conversions.time_from_msg(header.stamp))

    def leave_images(self) -> None:
        """One of each is enough, and they cost the listener a lot."""
        for name in [name for name in self._images if name in self.frames]:
            self._node.destroy_subscription(self._images.pop(name))

    def faults(self, now_ns: int) -> list[str]:
        """Frames that are not in one tree, and stamps that are not of this simulation."""
        roots = set(self.parents.values()) - set(self.parents)
        found = [] if len(roots) == 1 else [f"tf has the roots {sorted(roots)}"]
        known = {"", *roots, *self.parents}
        for name, frames in self.frames.items():
            found += [f"{name}: frame {frame!r} is not in tf" for frame in frames - known]
        for name, stamps in self.stamps_ns.items():
            wrong = [stamp for stamp in stamps if not 0 <= stamp <= now_ns + 1_000_000_000]
            found += [f"{name}: stamped {wrong[0] / 1e9} s at {now_ns / 1e9} s"] if wrong else []
        return found
