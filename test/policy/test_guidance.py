"""Guided chunks against the paper's algorithm written out, and as the graph that is exported."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from physai_base.task import Task
from physai_lab.training.export import to_onnx, unrolled_guidance
from physai_lab.training.policy import PolicyTraining, build_network
from physai_policy.flow_policy import guidance_weights
from physai_policy.networks import guided_sampler

pytestmark = pytest.mark.slow

BATCH, H, STEPS = 3, 16, 5
FROZEN, VALID = 4, 10


@pytest.fixture(scope="module")
def network(task: Task) -> Any:
    torch.manual_seed(0)
    return build_network(task.feature_names(), len(task.action), PolicyTraining(width=48, blocks=1)).eval()


@pytest.fixture(scope="module")
def example(task: Task) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    weights = guidance_weights(H, FROZEN, VALID).astype(np.float32)
    return {
        "observation": rng.standard_normal((BATCH, len(task.feature_names()))).astype(np.float32),
        "noise": rng.standard_normal((BATCH, H, 4)).astype(np.float32),
        "prefix": rng.standard_normal((BATCH, H, 4)).astype(np.float32),
        "given": np.repeat(weights[None], BATCH, axis=0),
    }


def written_out(network: Any, example: dict[str, np.ndarray], *, jacobian: bool) -> np.ndarray:
    """Algorithm 1 and equations 2 to 4 of Black et al., arXiv 2506.07339, one sample at a time and by autograd."""
    chunks = []
    for observation, noise, target, weights in zip(
        *(torch.from_numpy(example[k]) for k in ("observation", "noise", "prefix", "given")), strict=True
    ):
        nothing = torch.zeros(1, H, 4)
        context = network.context(observation[None], nothing, torch.zeros(1, H)).detach()
        a = noise[None].clone()
        for n in range(STEPS):
            tau = n / STEPS
            a = a.detach().requires_grad_()
            velocity = network(context, a, torch.full((1, 1), tau))
            estimate = a + (1 - tau) * velocity
            error = weights[None, :, None] * (target[None] - estimate).detach()
            g = torch.autograd.grad(estimate, a, error)[0] if jacobian else error
            r2 = (1 - tau) ** 2 / (tau**2 + (1 - tau) ** 2)
            gain = min(5.0, (1 - tau) / (tau * r2)) if tau else 5.0
            a = a + (velocity + gain * g) / STEPS
        chunks.append(a[0].detach().numpy())
    return np.array(chunks)


@pytest.mark.parametrize("identity", [False, True])
def test_the_graph_is_the_papers_algorithm(
    network: Any, example: dict[str, np.ndarray], identity: bool
) -> None:
    module = unrolled_guidance(guided_sampler(network, STEPS, identity=identity), example)
    session = onnxruntime.InferenceSession(to_onnx(module, example, ["chunk"], free_batch=False))
    (chunk,) = session.run(["chunk"], example)
    np.testing.assert_allclose(chunk, written_out(network, example, jacobian=not identity), atol=2e-5)
    other = written_out(network, example, jacobian=identity)
    assert np.abs(chunk - other).max() > 1e-3  # the two are different algorithms


@pytest.mark.parametrize("identity", [False, True])
def test_guidance_holds_what_is_carried_out_and_leaves_the_rest(
    network: Any, example: dict[str, np.ndarray], identity: bool
) -> None:
    sample = guided_sampler(network, STEPS, identity=identity)

    def off(weights: np.ndarray) -> np.ndarray:
        """How far each step is from the prefix."""
        given = torch.from_numpy(np.repeat(weights[None].astype(np.float32), BATCH, axis=0))
        inputs = [torch.from_numpy(example[k]) for k in ("observation", "noise", "prefix")]
        with torch.no_grad():
            return np.abs(sample(*inputs, given).numpy() - example["prefix"]).mean(axis=(0, 2))

    free, guided = off(np.zeros(H)), off(guidance_weights(H, FROZEN, VALID))
    assert (guided[:FROZEN] < 0.3 * free[:FROZEN]).all()
    assert guided[:FROZEN].mean() < guided[VALID:].mean()
