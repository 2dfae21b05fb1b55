"""Which network a bundle's weights are of: the registry of what torch computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from physai_base.bundle import NETWORK, Bundle
from physai_policy.networks import flow_from_bundle
from physai_policy.pretrained import pretrained_from_bundle
from physai_policy.vision_networks import vision_from_bundle

ARCHITECTURES: dict[str, Callable[[Bundle], Any]] = {
    NETWORK: pretrained_from_bundle, "images": vision_from_bundle, "features": flow_from_bundle,
}  # fmt: skip
"""By the entry of `config` that a bundle of it has; the first that is there counts."""


def from_bundle(bundle: Bundle) -> Any:
    """The module that a bundle's graph was made of, from its safetensors; its arguments are the bundle's inputs in order.

    Raises:
        BundleError: the weights are not those of a network here.
    """
    made = next((make for key, make in ARCHITECTURES.items() if key in bundle.config), flow_from_bundle)
    return made(bundle)
