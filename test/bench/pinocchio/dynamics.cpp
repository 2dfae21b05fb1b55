// Times one cycle of the control core, our dynamics alone, and the same dynamics terms by Pinocchio, on the same
// recorded states. Driven by test/bench/bench_cycle.py.
#include <pinocchio/algorithm/crba.hpp>
#include <pinocchio/algorithm/frames.hpp>
#include <pinocchio/algorithm/kinematics.hpp>
#include <pinocchio/algorithm/rnea.hpp>
#include <pinocchio/multibody.hpp>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <memory>
#include <time.h>
#include <vector>

extern "C" {
#include "dynamics.h"
}

namespace {

using Model = pinocchio::Model;
using Row = double[3];

long now_ns()
{
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000L + now.tv_nsec;
}

// What a cycle takes from the dynamics.
struct Terms {
    Eigen::MatrixXd inertia;
    Eigen::VectorXd bias, gravity;
    pinocchio::Data::Matrix6x jacobian; // of the tool, base axes, linear then angular
    Eigen::Vector3d position;
    Eigen::Matrix3d rotation;
    Eigen::Matrix<double, 6, 1> drift;
};

// Pinocchio, used as one would who counts microseconds: the world convention of crba leaves the joint Jacobian
// behind, and nonLinearEffects leaves the velocities and accelerations that the tool's drift needs.
class Pinocchio {
  public:
    Model model;
    pinocchio::FrameIndex tool = 0;
    Terms terms;

    void set_up()
    {
        data = std::make_unique<pinocchio::Data>(model);
        q = v = Eigen::VectorXd::Zero(model.nv);
        terms.inertia = Eigen::MatrixXd::Zero(model.nv, model.nv);
        terms.bias = terms.gravity = q;
        terms.jacobian = pinocchio::Data::Matrix6x::Zero(6, model.nv);
    }

    void update(const double *position, const double *velocity)
    {
        q = Eigen::Map<const Eigen::VectorXd>(position, model.nv);
        v = Eigen::Map<const Eigen::VectorXd>(velocity, model.nv);
        pinocchio::crba(model, *data, q, pinocchio::Convention::WORLD);
        terms.inertia.triangularView<Eigen::Upper>() = data->M.triangularView<Eigen::Upper>();
        terms.inertia.triangularView<Eigen::StrictlyLower>() =
            data->M.transpose().triangularView<Eigen::StrictlyLower>();
        const auto &frame = model.frames[tool];
        data->oMf[tool] = data->oMi[frame.parentJoint] * frame.placement;
        pinocchio::getFrameJacobian(model, *data, tool, pinocchio::LOCAL_WORLD_ALIGNED, terms.jacobian);
        terms.position = data->oMf[tool].translation();
        terms.rotation = data->oMf[tool].rotation();
        terms.bias = pinocchio::nonLinearEffects(model, *data, q, v);
        drift(frame);
        terms.gravity = pinocchio::computeGeneralizedGravity(model, *data, q);
    }

  private:
    std::unique_ptr<pinocchio::Data> data;
    Eigen::VectorXd q, v;

    // nonLinearEffects gives each joint's spatial acceleration in its own frame, with gravity as one of the base.
    void drift(const Model::Frame &frame)
    {
        const auto acceleration = frame.placement.actInv(data->a_gf[frame.parentJoint]);
        const auto velocity = frame.placement.actInv(data->v[frame.parentJoint]);
        const auto &rotation = data->oMf[tool].rotation();
        terms.drift.head<3>() =
            rotation * (acceleration.linear() + velocity.angular().cross(velocity.linear())) +
            model.gravity.linear();
        terms.drift.tail<3>() = rotation * acceleration.angular();
    }
};

struct Recorded {
    physai_state state;
    physai_command command;
    int sent;
};

using Cycle = int (*)(void *, const physai_state *, physai_command *);
using Count = long (*)();

} // namespace

// Numbers of the arm as rows of the arrays; poses are a rotation row by row, then a position.
extern "C" struct bench_arm {
    int n, tool_joint;
    int parent[PHYSAI_MAX_JOINTS]; // -1: the base
    double placement[PHYSAI_MAX_JOINTS][12];
    double axis[PHYSAI_MAX_JOINTS][3];
    double mass[PHYSAI_MAX_JOINTS];
    double centre[PHYSAI_MAX_JOINTS][3];
    double inertia[PHYSAI_MAX_JOINTS][6]; // xx yy zz xy xz yz about the centre
    double armature[PHYSAI_MAX_JOINTS];
    double gravity[3];
    double tool[12];
};

struct bench {
    Pinocchio pinocchio;
    physai_model model;
    physai_dynamics dynamics;
    Cycle cycle;
    void *control;
    std::vector<Recorded> recorded;
    Count allocations, locks; // nullptr where nothing counts them
    long counted[2][2];       // allocations and locks, of Pinocchio and of the core
    double replay_difference; // Nm, between the torques recorded and those of a replay
};

namespace {

pinocchio::SE3 pose(const double *values)
{
    return pinocchio::SE3(Eigen::Map<const Eigen::Matrix<double, 3, 3, Eigen::RowMajor>>(values),
                          Eigen::Map<const Eigen::Vector3d>(values + 9));
}

// Joints about z have a type of their own, which is faster.
void build(Pinocchio &pinocchio, const bench_arm &arm)
{
    Model &model = pinocchio.model;
    model.gravity.linear() = Eigen::Map<const Eigen::Vector3d>(arm.gravity);
    for (int i = 0; i < arm.n; i++) {
        Eigen::Vector3d axis = Eigen::Map<const Eigen::Vector3d>(arm.axis[i]);
        size_t parent = size_t(arm.parent[i] + 1);
        std::string name = "joint" + std::to_string(i);
        size_t id = axis.isApprox(Eigen::Vector3d::UnitZ())
                        ? model.addJoint(parent, pinocchio::JointModelRZ(), pose(arm.placement[i]), name)
                        : model.addJoint(parent, pinocchio::JointModelRevoluteUnaligned(axis),
                                         pose(arm.placement[i]), name);
        const double *s = arm.inertia[i];
        Eigen::Matrix3d inertia;
        inertia << s[0], s[3], s[4], s[3], s[1], s[5], s[4], s[5], s[2];
        model.appendBodyToJoint(id, pinocchio::Inertia(arm.mass[i],
                                                       Eigen::Map<const Eigen::Vector3d>(arm.centre[i]),
                                                       inertia));
        model.armature[model.joints[id].idx_v()] = arm.armature[i];
    }
    pinocchio.tool = model.addFrame(pinocchio::Frame("tool", size_t(arm.tool_joint + 1), 0, pose(arm.tool),
                                                     pinocchio::OP_FRAME));
    pinocchio.set_up();
}

double worst(double so_far, double ours, double theirs, double scale)
{
    double difference = std::abs(ours - theirs) / scale;
    return difference <= so_far ? so_far : difference; // NaN stays
}

} // namespace

#define API extern "C" __attribute__((visibility("default")))

API bench *bench_open(const bench_arm *arm, const physai_control_config *config, char *text, size_t size)
{
    auto b = std::make_unique<bench>();
    build(b->pinocchio, *arm);
    if (physai_model_load(&b->model, config, text, size))
        return nullptr;
    physai_dynamics_init(&b->dynamics, &b->model);
    b->allocations = reinterpret_cast<Count>(dlsym(RTLD_DEFAULT, "physai_malloc_count"));
    b->locks = reinterpret_cast<Count>(dlsym(RTLD_DEFAULT, "physai_lock_count"));
    return b.release();
}

// The core that is recorded or timed from now on.
API void bench_use(bench *b, Cycle cycle, void *control)
{
    b->cycle = cycle;
    b->control = control;
}

// In the core's place while the cell runs.
API int bench_record(bench *b, const physai_state *state, physai_command *command)
{
    int sent = b->cycle(b->control, state, command);
    if (state)
        b->recorded.push_back({*state, *command, sent});
    return sent;
}

API long bench_recorded(const bench *b)
{
    return long(b->recorded.size());
}

// The largest relative difference between Pinocchio's terms and ours over the recorded states, the gripper open by
// `width` on both sides.
API double bench_agreement(bench *b, double width)
{
    double difference = 0;
    for (const Recorded &r : b->recorded) {
        b->pinocchio.update(r.state.q, r.state.dq);
        physai_dynamics_update(&b->dynamics, r.state.q, r.state.dq, width);
        const Terms &theirs = b->pinocchio.terms;
        const physai_dynamics &ours = b->dynamics;
        int n = b->pinocchio.model.nv;
        double torque = 1 + theirs.bias.cwiseAbs().maxCoeff(), drift = 1 + theirs.drift.cwiseAbs().maxCoeff();
        for (int i = 0; i < n; i++) {
            difference = worst(difference, ours.bias[i], theirs.bias[i], torque);
            difference = worst(difference, ours.gravity[i], theirs.gravity[i], torque);
            for (int j = 0; j < n; j++)
                difference = worst(difference, ours.inertia[i][j], theirs.inertia(i, j), 1);
            for (int a = 0; a < 6; a++)
                difference = worst(difference, ours.tool_jacobian[a][i], theirs.jacobian(a, i), 1);
        }
        for (int a = 0; a < 6; a++)
            difference = worst(difference, ours.tool_drift[a], theirs.drift[a], drift);
        for (int a = 0; a < 3; a++) {
            difference = worst(difference, ours.tool_position[a], theirs.position[a], 1);
            for (int c = 0; c < 3; c++)
                difference = worst(difference, ours.tool_rotation[3 * a + c], theirs.rotation(a, c), 1);
        }
    }
    return difference;
}

// Runs the recorded states [first, last) through one of: 0 Pinocchio, 1 our dynamics, 2 the whole cycle; ns of
// each but the first `skip`, which warm the caches up, go to `times`. Returns how many those are.
API long bench_block(bench *b, int which, long first, long last, long skip, double *times)
{
    long counted = 0;
    physai_command command;
    for (long k = first; k < last; k++) {
        const Recorded &r = b->recorded[size_t(k)];
        long allocations = b->allocations ? b->allocations() : 0, locks = b->locks ? b->locks() : 0;
        long begin = now_ns();
        if (which == 0)
            b->pinocchio.update(r.state.q, r.state.dq);
        else if (which == 1)
            physai_dynamics_update(&b->dynamics, r.state.q, r.state.dq, r.state.gripper_width);
        else
            b->cycle(b->control, &r.state, &command);
        long end = now_ns();
        if (which != 1) {
            b->counted[which / 2][0] += b->allocations ? b->allocations() - allocations : 0;
            b->counted[which / 2][1] += b->locks ? b->locks() - locks : 0;
        }
        if (which == 2)
            for (uint32_t i = 0; i < r.state.n_joints; i++)
                b->replay_difference = worst(b->replay_difference, command.tau[i], r.command.tau[i], 1);
        if (k >= first + skip)
            times[counted++] = double(end - begin);
    }
    return counted;
}

// What reading the clock twice costs, ns; it is in every time above.
API double bench_clock_ns()
{
    std::vector<long> differences;
    for (int k = 0; k < 10001; k++) {
        long begin = now_ns();
        differences.push_back(now_ns() - begin);
    }
    std::nth_element(differences.begin(), differences.begin() + 5000, differences.end());
    return double(differences[5000]);
}

// `kind` 0: allocations, 1: locks; -1 where nothing counts them.
API long bench_counted(const bench *b, int side, int kind)
{
    return (kind ? b->locks : b->allocations) ? b->counted[side][kind] : -1;
}

API double bench_replay_difference(const bench *b)
{
    return b->replay_difference;
}
