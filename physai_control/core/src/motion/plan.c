#include "motion/plan.h"

#include "model/rotation.h"

#include <stddef.h>
#include <string.h>

#define NS 1e-9

static void take_header(struct physai_plan *plan, const struct physai_chunk *chunk, uint32_t channels)
{
    uint32_t last = chunk->n_steps - 1;
    plan->sequence = chunk->sequence;
    plan->lease = chunk->lease;
    plan->observation_ns = chunk->observation_ns;
    plan->start_ns = chunk->start_ns;
    plan->dt_ns = chunk->dt_ns;
    plan->expiry_ns = chunk->expiry_ns;
    plan->end_ns = last > 0 ? chunk->start_ns + (int64_t)last * chunk->dt_ns : chunk->expiry_ns;
    plan->mode = chunk->mode;
    plan->n_joints = channels;
    plan->n_steps = chunk->n_steps;
    memcpy(plan->opening, chunk->opening, chunk->n_steps * sizeof chunk->opening[0]);
}

/* ddq[k-1] + 4 ddq[k] + ddq[k+1] = 6/h^2 (q[k-1] - 2 q[k] + q[k+1]), zero at both ends: Thomas's algorithm.
 */
static void solve_spline(struct physai_plan *plan)
{
    uint32_t n = plan->n_joints, last = plan->n_steps - 1;
    double h = (double)plan->dt_ns * NS, upper[PHYSAI_MAX_STEPS];
    memset(plan->ddq[0], 0, sizeof plan->ddq[0]);
    memset(plan->ddq[last], 0, sizeof plan->ddq[last]);
    upper[0] = 0;
    for (uint32_t k = 1; k < last; k++) {
        upper[k] = 1 / (4 - upper[k - 1]);
        for (uint32_t i = 0; i < n; i++) {
            double right = 6 / (h * h) * (plan->q[k - 1][i] - 2 * plan->q[k][i] + plan->q[k + 1][i]);
            plan->ddq[k][i] = (right - plan->ddq[k - 1][i]) * upper[k];
        }
    }
    for (uint32_t k = last; k-- > 1;)
        for (uint32_t i = 0; i < n; i++)
            plan->ddq[k][i] -= upper[k] * plan->ddq[k + 1][i];
}

void physai_plan_fit(struct physai_plan *plan, const struct physai_chunk *chunk)
{
    take_header(plan, chunk, chunk->n_values);
    memcpy(plan->q, chunk->values, chunk->n_steps * sizeof chunk->values[0]);
    solve_spline(plan);
}

void physai_plan_fit_poses(struct physai_plan *plan, const struct physai_chunk *chunk,
                           const double anchor[][4])
{
    uint32_t n_tools = chunk->n_values / 7;
    take_header(plan, chunk, 6 * n_tools);
    memcpy(plan->anchor, anchor, n_tools * sizeof plan->anchor[0]);
    for (uint32_t k = 0; k < chunk->n_steps; k++) {
        for (uint32_t t = 0; t < n_tools; t++) {
            memcpy(plan->q[k] + 6 * t, chunk->values[k] + 7 * t, 3 * sizeof(double));
            physai_quat_difference(anchor[t], chunk->values[k] + 7 * t + 3, plan->q[k] + 6 * t + 3);
        }
    }
    solve_spline(plan);
}

void physai_plan_copy(struct physai_plan *to, const struct physai_plan *from)
{
    memcpy(to, from, offsetof(struct physai_plan, opening));
    memcpy(to->opening, from->opening, from->n_steps * sizeof from->opening[0]);
    memcpy(to->q, from->q, from->n_steps * sizeof from->q[0]);
    memcpy(to->ddq, from->ddq, from->n_steps * sizeof from->ddq[0]);
}

/* Index of the step that is current, limited to [0, highest]. */
static uint32_t step_at(const struct physai_plan *plan, int64_t time_ns, uint32_t highest)
{
    if (time_ns <= plan->start_ns)
        return 0;
    int64_t step = (time_ns - plan->start_ns) / plan->dt_ns;
    return step < (int64_t)highest ? (uint32_t)step : highest;
}

/* Channels [first, end) at a time. */
static void evaluate(const struct physai_plan *plan, uint32_t first, uint32_t end, int64_t time_ns,
                     struct physai_motion *motion)
{
    uint32_t last = plan->n_steps - 1;
    if (last == 0) {
        for (uint32_t i = first; i < end; i++) {
            motion->q[i] = plan->q[0][i];
            motion->dq[i] = motion->ddq[i] = 0;
        }
        return;
    }
    uint32_t k = step_at(plan, time_ns, last - 1);
    double h = (double)plan->dt_ns * NS, rate = 1 / h;
    double x = (double)(time_ns - plan->start_ns - (int64_t)k * plan->dt_ns) * NS;
    double inside = x < 0 ? 0 : x > h ? h : x; /* s since the step, within the spline */
    double b = inside * rate, a = 1 - b;
    double q_a = h * h / 6 * (a * a * a - a), q_b = h * h / 6 * (b * b * b - b);
    double dq_a = h / 6 * (1 - 3 * a * a), dq_b = h / 6 * (3 * b * b - 1);
    const double *q0 = plan->q[k], *q1 = plan->q[k + 1], *c0 = plan->ddq[k], *c1 = plan->ddq[k + 1];
    for (uint32_t i = first; i < end; i++) {
        motion->dq[i] = (q1[i] - q0[i]) * rate + dq_a * c0[i] + dq_b * c1[i];
        motion->q[i] = a * q0[i] + b * q1[i] + q_a * c0[i] + q_b * c1[i] + motion->dq[i] * (x - inside);
        motion->ddq[i] = a * c0[i] + b * c1[i];
    }
}

void physai_plan_evaluate(const struct physai_plan *plan, int64_t time_ns, struct physai_motion *motion)
{
    evaluate(plan, 0, plan->n_joints, time_ns, motion);
}

void physai_plan_evaluate_joint(const struct physai_plan *plan, uint32_t i, int64_t time_ns, double *q,
                                double *dq, double *ddq)
{
    struct physai_motion motion;
    evaluate(plan, i, i + 1, time_ns, &motion);
    *q = motion.q[i];
    *dq = motion.dq[i];
    *ddq = motion.ddq[i];
}

const double *physai_plan_opening(const struct physai_plan *plan, int64_t time_ns)
{
    return plan->opening[step_at(plan, time_ns, plan->n_steps - 1)];
}
