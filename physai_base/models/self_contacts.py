"""Which parts of a robot never need to be kept apart, of a URDF, which says nothing of it.

As MoveIt's setup assistant finds them: neighbours along a chain, the parts of a gripper, and what collides wherever
the joints are.
"""

from __future__ import annotations

import mujoco
import numpy as np

SAMPLES = 40  # joint positions that are tried
ALWAYS = 0.95  # of them
NEAR = 2  # moving links apart


def carriers(model: mujoco.MjModel, body: int) -> list[int]:
    """A body and those that carry it, without the world."""
    chain = []
    while body:
        chain.append(body)
        body = int(model.body_parentid[body])
    return chain


def self_contacts(model: mujoco.MjModel, fingers: tuple[str, ...]) -> list[tuple[str, str]]:
    """Pairs of bodies whose contacts are to be left out."""
    colliding = sorted({int(model.geom_bodyid[g]) for g in range(model.ngeom) if model.geom_contype[g]})
    weld = model.body_weldid
    hands: dict[int, set[int]] = {}  # the palm's group: bodies that its fingers move
    moved = {int(model.jnt_bodyid[model.joint(name).id]) for name in fingers}
    for finger in moved:
        behind = [body for body in carriers(model, finger) if not moved & set(carriers(model, body))]
        hands.setdefault(int(weld[behind[0]]) if behind else 0, set()).add(finger)
    hand_of = {}
    for body in colliding:
        for palm, moving in hands.items():
            if (palm and int(weld[body]) == palm) or moving & set(carriers(model, body)):
                hand_of[body] = palm
    pairs = {
        (a, b)
        for a in colliding
        for b in colliding
        if a < b
        and weld[a] != weld[b]
        and (_apart(model, a, b) <= NEAR or (a in hand_of and hand_of[a] == hand_of.get(b)))
    }
    return _names(model, pairs | _always(model))


def always_touching(model: mujoco.MjModel) -> list[tuple[str, str]]:
    """Pairs of bodies that touch wherever the joints are."""
    return _names(model, _always(model))


def _names(model: mujoco.MjModel, pairs: set[tuple[int, int]]) -> list[tuple[str, str]]:
    names = [(model.body(a).name, model.body(b).name) for a, b in sorted(pairs)]
    return [pair for pair in names if all(pair)]


def beside_the_base(model: mujoco.MjModel) -> list[tuple[str, str]]:
    """What stands still, and the links that move on it: MuJoCo leaves neighbours alone unless one of them stands still."""
    still = [b for b in range(1, model.nbody) if model.body_weldid[b] == 0 and model.body_geomnum[b]]
    first = [
        b
        for b in range(1, model.nbody)
        if model.body_weldid[b] and model.body_weldid[model.body_parentid[model.body_weldid[b]]] == 0
    ]
    names = [(model.body(a).name, model.body(b).name) for a in still for b in first if model.body_geomnum[b]]
    return [pair for pair in names if all(pair)]


def _apart(model: mujoco.MjModel, a: int, b: int) -> int:
    """How many moving links lie between two; many where neither carries the other."""
    for upper, lower in ((a, b), (b, a)):
        chain = [body for body in carriers(model, lower) if model.body_jntnum[body]]
        group = int(model.body_weldid[upper])
        if group == 0:
            return len(chain)
        if group in chain:
            return chain.index(group)
    return 99


def _always(model: mujoco.MjModel) -> set[tuple[int, int]]:
    data, rng = mujoco.MjData(model), np.random.default_rng(0)
    counts: dict[tuple[int, int], int] = {}
    for _ in range(SAMPLES):
        for j in range(model.njnt):
            low, high = model.jnt_range[j] if model.jnt_limited[j] else (-np.pi, np.pi)
            data.qpos[model.jnt_qposadr[j]] = rng.uniform(low, high)
        mujoco.mj_kinematics(model, data)
        mujoco.mj_collision(model, data)
        touching = set()
        for contact in data.contact[: data.ncon]:
            a, b = sorted((int(model.geom_bodyid[contact.geom1]), int(model.geom_bodyid[contact.geom2])))
            touching.add((a, b))
        for pair in touching:
            counts[pair] = counts.get(pair, 0) + 1
    return {pair for pair, count in counts.items() if count >= ALWAYS * SAMPLES}
