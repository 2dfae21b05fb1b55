"""The mutations: every guard taken away once, and the wrong forms that C makes easy.

`old` must be found exactly once in the present sources (test/lab/test_faults.py says when it is not).
"""

from __future__ import annotations

from physai_lab.faults.mutants import Mutation

_SRC = "physai_control/core/src/"
CYCLE, VALIDATE, REFERENCE = f"{_SRC}cycle.c", f"{_SRC}motion/validate.c", f"{_SRC}motion/reference.c"
LIMITS, CONTROL = f"{_SRC}motion/joint_limits.c", f"{_SRC}control.c"
GUARDS, TRACK, STATE = f"{_SRC}motion/guards.c", f"{_SRC}motion/track.c", f"{_SRC}state.c"
INTERNAL = f"{_SRC}internal.h"
PLANT = "physai_sim/plant/src/plant.c"


def _removal(
    name: str, guard: str, file: str, old: str, new: str, *caught_by: str, behind: tuple[str, ...] = ()
) -> Mutation:
    return Mutation(name, guard, file, old, new, caught_by, removal=True, behind=behind)


def _wrong(
    name: str, guard: str, file: str, old: str, new: str, *caught_by: str, behind: tuple[str, ...] = ()
) -> Mutation:
    return Mutation(name, guard, file, old, new, caught_by, behind=behind)


MUTATIONS: tuple[Mutation, ...] = (
    # ---- the measured state ----
    _removal(
        "state-finite", "states that are not finite", CYCLE,
        """    if (!(physai_all_finite(raw->q, n) && physai_all_finite(raw->dq, n) && physai_all_finite(raw->tau, n) &&
          physai_all_finite(raw->opening, c->n_tools))) {""",
        "    if (0) {", "F11",
    ),
    _wrong(
        "finite-by-comparison", "states that are not finite", LIMITS,
        "        if (!(fabs(values[i]) <= DBL_MAX))", "        if (fabs(values[i]) > DBL_MAX)", "F11",
    ),
    _wrong(
        "finite-last-joint", "states that are not finite", LIMITS,
        """    for (uint32_t i = 0; i < n; i++)
        if (!(fabs(values[i]) <= DBL_MAX))""",
        """    for (uint32_t i = 0; i + 1 < n; i++)
        if (!(fabs(values[i]) <= DBL_MAX))""", "F11",
    ),
    _removal(
        "state-newer", "states that are not newer", CYCLE,
        "(raw->seq > c->state.seq && raw->time_ns > c->state.time_ns)", "true", "F24",
    ),
    _removal(
        "state-timeout", "the state's timeout", CYCLE,
        "    else if (!(waited_s <= c->config.state_timeout_s))", "    else if (0)", "F9",
    ),
    _wrong(
        "timeout-doubled", "the state's timeout", CYCLE,
        "    else if (!(waited_s <= c->config.state_timeout_s))",
        "    else if (!(waited_s <= 2 * c->config.state_timeout_s))", "F9",
    ),
    _wrong(
        "timeout-turned", "the state's timeout", CYCLE,
        "    else if (!(waited_s <= c->config.state_timeout_s))",
        "    else if (waited_s <= c->config.state_timeout_s)", "F9",
    ),
    _removal("gate-flag", "the robot's own gate", GUARDS, "    if ((c->state.flags & PHYSAI_STATE_GATE_LATCHED) && c->enabled) /* also one that a stop holds */", "    if (0)", "F24"),
    _removal("estop-flag", "the robot's own emergency stop", GUARDS, "    if ((c->state.flags & PHYSAI_STATE_ESTOP) && c->status.state != PHYSAI_INACTIVE)", "    if (0)", "F22"),
    _removal(
        "estop-request", "the emergency stop", STATE,
        "        physai_estop(c, PHYSAI_CAUSE_ESTOP_REQUESTED);", "        (void)0;", "F22",
    ),
    _removal(
        "reset-while-pressed", "the reset while the cause lasts", STATE,
        "return physai_latched(c) && !(c->state.flags & shut);",
        "return physai_latched(c);", "F22",
    ),
    # ---- the state against itself and the clock ----
    _removal("state-spike", "states that jump", GUARDS, "        if (!(fabs(surprise) <= room)) {", "        if (0) {", "F11"),
    _removal("state-drift", "positions against velocities", GUARDS, "        if (!(fabs(c->monitor.drift[i]) <= DRIFT_RAD))", "        if (0)", "F12", "F10"),
    _removal("state-frozen", "states that repeat themselves", GUARDS, "m->same >= FROZEN && i < c->n", "0 && i < c->n", "F10"),
    _removal("state-gap", "a jump of the robot's clock", GUARDS, "    if (!(gap_s <= c->config.state_timeout_s))", "    if (0)", "F8"),
    _removal("degraded", "lower gains when states come late", GUARDS, "gap_s > LATE_AT_ONCE * c->period_s)", "0)", "F9"),
    # ---- the arm ----
    _removal("joint-velocity", "a joint's speed", GUARDS, "        if (!(speed <= fastest))\n            physai_fault(c, true,", "        if (0)\n            physai_fault(c, true,", "F12", behind=("contact-joints", "contact-tool")),
    _removal("joint-position", "a joint's range", GUARDS, "        if (!(q >= low && q <= high))", "        if (0)", "F21"),
    _removal("pose-tracking", "a tool far from its reference", GUARDS, "        if (!(error <= farthest))\n            physai_fault(c, true, PHYSAI_CAUSE_POSE", "        if (0)\n            physai_fault(c, true, PHYSAI_CAUSE_POSE", "F20", "F18"),
    _removal("fences", "the geofences", GUARDS, "    if (!(out.distance <= out.allowed))\n        fence_fault(c, true,", "    if (0)\n        fence_fault(c, true,", "F20"),
    _wrong("fence-allowance-follows", "the geofences", GUARDS, "            if (!(distance[i][k] > 0 && c->fence_start[i][k] < INFINITY))", "            if (1)", "F20"),
    _removal("contact-joints", "contact at the joints", GUARDS, "limit > 0 && !(torque <= limit)", "0", "F19", behind=("contact-tool",)),
    _removal("contact-tool", "contact at the tool", GUARDS, "limit > 0 && !(size <= limit)", "0", "F19", behind=("contact-joints",)),
    _removal("instability", "a loop that shakes", GUARDS, "        if (!(m->swings[i] <= SWINGS)) {", "        if (0) {", "F12"),
    _removal("latched-runaway", "an arm that a stop does not hold", GUARDS, "    if (!(fastest <= m->slowest + RUNAWAY_SPEED && m->restless_s <= RESTLESS_S))", "    if (0)", "F12", "F19", "F20"),
    _removal("latched-speed", "a stop that does not slow down", GUARDS, "        if (!(coming_speed(c, i) <= limit || speed <= m->speed[i]))", "        if (0)", "F19", "F12", behind=("latched-runaway",)),
    _wrong("latched-restless", "an arm that a stop does not hold", GUARDS, "&& m->restless_s <= RESTLESS_S", "", "F20", "F12", "F19"),
    _wrong("latched-fence", "a stop that leaves a fence", GUARDS, "    if (!(out.distance <= out.allowed))\n        fence_fault(c, false,", "    if (0)\n        fence_fault(c, false,", "F20"),
    _wrong("rising-held", "faults while the gains rise", STATE, " && !physai_rising(c);", ";", "F20"),
    _wrong("rising-loose", "faults while the gains rise", GUARDS, "#define RISING_SHARE   0.3 ", "#define RISING_SHARE   1.0 ", "F20"),
    _removal("barrier", "the brake at a joint's speed limit", LIMITS, "    return -inertia / BARRIER_TIME_S * (physai_max(0, dq - up) + physai_min(0, dq + down));", "    return (void)up, (void)down, (void)dq, (void)inertia, 0;", "F20", "F18", "F12", "F21"),
    _removal(
        "yielding", "the law's drive towards a joint's stop", LIMITS,
        "    double drive = tau - bias, distance", "    return (void)limit, tau;\n    double drive = tau - bias, distance", "F18",
    ),
    _wrong("reduced-two-steps", "the start of reduced mode", TRACK, "        c->governor.on = true;\n        return;", "        c->governor.on = true;", "F23"),
    _wrong("switch-bump", "laws and gains that change", CYCLE, "    bool change = c->law_changed && c->tau_valid && !physai_latched(c);", "    bool change = false;", "F23"),
    _removal("residual-excess", "the learned residual", f"{_SRC}model/residual.c", "    if (!(r->excess_s[i] <= EXCESS_TIME_S))", "    if (0)", "F21"),
    # ---- what the cycle is made of ----
    _wrong("cycle-allocates", "no allocation in the cycle", STATE, "static void drop_chunks(struct physai_control *c)\n{\n", "static void drop_chunks(struct physai_control *c)\n{\n    void *volatile memory = __builtin_malloc(64);\n    __builtin_free(memory);\n", "F17"),
    _wrong("cycle-locks", "no lock in the cycle", CYCLE, "static void write_tools(struct physai_control *c)\n{\n", "static void write_tools(struct physai_control *c)\n{\n    pthread_mutex_lock(&c->mutex);\n    pthread_mutex_unlock(&c->mutex);\n", "F17"),
    _wrong("cycle-calls", "no system call in the cycle", CYCLE, "static void write_tools(struct physai_control *c)\n{\n", "static void write_tools(struct physai_control *c)\n{\n    extern int sched_yield(void);\n    sched_yield();\n", "F17"),
    # ---- latch and reset ----
    _removal(
        "latch", "the latch", INTERNAL,
        """    return control->status.state == PHYSAI_HOLD || control->status.state == PHYSAI_TRACK ||
           control->status.state == PHYSAI_STOPPING;""",
        "    return control->status.state != PHYSAI_INACTIVE;", "F22", "F9", "F11",
    ),
    _wrong(
        "reset-keeps-reference", "the reset's new reference", STATE,
        """        c->status.paused = 0;
        seed(c);
        enter(c, PHYSAI_HOLD, PHYSAI_CAUSE_RESET, -1, 0, 0);""",
        """        c->status.paused = 0;
        c->seeded = c->enabled = true;
        enter(c, PHYSAI_HOLD, PHYSAI_CAUSE_RESET, -1, 0, 0);""", "F9", "F11", "F24",
    ),
    _removal(
        "chunks-when-latched", "chunks in a latched state", VALIDATE,
        "    if (status->state == PHYSAI_FAULT || status->state == PHYSAI_ESTOP)\n", "    if (0)\n", "F9", "F22",
    ),
    # ---- the reference ----
    _removal(
        "chunk-end", "the end of a chunk", TRACK,
        "return c->status.state == PHYSAI_TRACK && plan_ends(c);", "return false;", "F1", "F27",
    ),
    _removal("blend", "the blend between chunks", REFERENCE, "    double T = blend_s;", "    double T = 1e-3;\n    set_duration(reference, time_ns, 0);\n    return;", "F3"),
    _removal(
        "near-reference", "a chunk that starts far from the reference", TRACK,
        "        if (!(fabs(base.q[i] - from[i]) <= JUMP_SLACK * c->config.chunk_jump_rad))", "        if (0)", "F6",
    ),
    # ---- the torque ----
    _wrong(  # no guard, but what the next one is for
        "law-not-finite", "a law that computes a number", CYCLE, "    smooth_change(c, tau);\n",
        "    smooth_change(c, tau);\n    if (c->status.cycles == 1600)\n        tau[0] = NAN;\n", "F11",
    ),
    _removal(
        "torque-finite", "a torque that is not finite", CYCLE, "        if (!computed || !physai_all_finite(&tau[i], 1)) {", "        if (!computed) {",
        "F11", behind=("law-not-finite", "torque-clamp", "plant-credible"),
    ),
    _removal(
        "torque-clamp", "the torque's limits", LIMITS,
        """    for (uint32_t i = 0; i < n; i++) {
        double step = (stopping ? joints[i].stop_torque_rate : joints[i].torque_rate) * dt;
        tau[i] = bound(tau[i], -joints[i].torque, joints[i].torque);
        tau[i] = bound(tau[i], previous[i] - step, previous[i] + step);
        tau[i] = bound(tau[i], -joints[i].torque, joints[i].torque);
    }""",
        "    (void)joints, (void)n, (void)dt, (void)stopping, (void)previous, (void)tau;", "F11", "F10",
    ),
    _wrong(
        "rate-clamp-gone", "the torque's rate", LIMITS,
        "        tau[i] = bound(tau[i], previous[i] - step, previous[i] + step);", "        (void)previous, (void)step;", "F11",
    ),
    # ---- chunks ----
    _removal("chunk-finite", "chunks that are not finite", VALIDATE, "            if (!isfinite(chunk->values[k][i]))", "            if (0)", "F5"),
    _wrong(
        "chunk-finite-last-joint", "chunks that are not finite", VALIDATE,
        "        for (uint32_t i = 0; i < chunk->n_values; i++)\n            if (!isfinite(", "        for (uint32_t i = 0; i + 1 < chunk->n_values; i++)\n            if (!isfinite(", "F5",
    ),
    _removal("chunk-gripper-finite", "chunks that are not finite", VALIDATE, "    if (!isfinite(opening))", "    if (0)", "F5"),
    _removal("chunk-joints", "a chunk's size", VALIDATE, "    if (chunk->mode == PHYSAI_CHUNK_JOINTS && chunk->n_values != control->n)", "    if (0)", "F5"),
    _removal("chunk-steps", "a chunk's size", VALIDATE, "    if (chunk->n_steps < 1 || chunk->n_steps > PHYSAI_MAX_STEPS)", "    if (0)", "F5"),
    _wrong("chunk-steps-off-by-one", "a chunk's size", VALIDATE, "chunk->n_steps > PHYSAI_MAX_STEPS)", "chunk->n_steps > PHYSAI_MAX_STEPS + 1)", "F5"),
    _removal("chunk-dt", "a chunk's time step", VALIDATE, "    if (chunk->dt_ns < SHORTEST || chunk->dt_ns > LONGEST)", "    if (0)", "F5"),
    _removal("chunk-lease", "one policy at a time", VALIDATE, "    if (status->active_sequence && chunk->lease != status->active_lease)", "    if (0)", "F7"),
    _removal("chunk-sequence", "chunks out of order", VALIDATE, "    if (chunk->sequence <= last)", "    if (0)", "F4"),
    _wrong("chunk-sequence-repeat", "chunks out of order", VALIDATE, "chunk->sequence <= last", "chunk->sequence < last", "F4"),
    _removal("chunk-expired", "chunks that come too late", VALIDATE, "    if (chunk->expiry_ns <= now_ns)", "    if (0)", "F2"),
    _removal("chunk-past", "chunks that come too late", VALIDATE, "    if (chunk->n_steps > 1 && last_ns <= now_ns)", "    if (0)", "F2"),
    _removal("chunk-position", "chunks out of range", VALIDATE, "    if (!(q >= joint->position_min - TOLERANCE && q <= joint->position_max + TOLERANCE))", "    if (0)", "F6"),
    _removal("chunk-velocity", "chunks too fast", VALIDATE, "    if (!(fabs(dq) <= allowed + TOLERANCE))", "    if (0)", "F6"),
    _removal("chunk-acceleration", "chunks too rough", VALIDATE, "    if (!(fabs(ddq) <= joint->acceleration + TOLERANCE))", "    if (0)", "F6"),
    _removal("chunk-jump", "chunks that jump", VALIDATE, "        if (!(fabs(jump) <= control->config.chunk_jump_rad))", "        if (0)", "F6"),
    _removal(
        "chunk-fence", "chunks that leave the geofence", VALIDATE,
        "    if (!(worst.distance <= worst.allowed + TOLERANCE))", "    if (0)", "F6",
    ),
    # ---- the robot's side ----
    _removal(
        "plant-gate", "the gate on the robot's side", PLANT,
        "        if (dead || p->missed * cycle_s(p) >= p->config.gate_s)", "        if (0)", "F24", "F9",
    ),
    _wrong(
        "plant-gate-late", "the gate on the robot's side", PLANT,
        "p->missed * cycle_s(p) >= p->config.gate_s", "p->missed * cycle_s(p) >= 2 * p->config.gate_s", "F24",
    ),
    _removal(
        "plant-credible", "commands that cannot be meant", PLANT,
        "    bool came = exchange(p, &command, &dead) && credible(p, &command);", "    bool came = exchange(p, &command, &dead);",
        "F24",
    ),
)  # fmt: skip

BY_NAME = {mutation.name: mutation for mutation in MUTATIONS}
GUARDS_OFF = tuple(mutation for mutation in MUTATIONS if mutation.removal)
