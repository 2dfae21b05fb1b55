// The terms of terms.h by Pinocchio. Knows nothing of the control core.
#include "terms.h"

#include <pinocchio/algorithm/crba.hpp>
#include <pinocchio/algorithm/frames.hpp>
#include <pinocchio/algorithm/kinematics.hpp>
#include <pinocchio/algorithm/rnea.hpp>
#include <pinocchio/multibody.hpp>

#include <Eigen/Cholesky>

#include <memory>

using Model = pinocchio::Model;

// Used as one would who counts microseconds: the world convention of crba leaves the joint Jacobian behind, and
// nonLinearEffects leaves the velocities and accelerations that the tool's drift needs.
struct terms_pinocchio {
    Model model;
    pinocchio::FrameIndex tool = 0;
    std::unique_ptr<pinocchio::Data> data;
    Eigen::VectorXd q, v, bias, gravity;
    Eigen::MatrixXd inertia;
    pinocchio::Data::Matrix6x jacobian;
    Eigen::Vector3d position;
    Eigen::Matrix3d rotation;
    Eigen::Matrix<double, 6, 1> drift;
    using Six = Eigen::Matrix<double, 6, 6>;
    using Square = Eigen::Matrix<double, TERMS_ARM, TERMS_ARM>;
    Six tool_inertia;
    Square null_space;

    void set_up()
    {
        data = std::make_unique<pinocchio::Data>(model);
        q = v = bias = gravity = Eigen::VectorXd::Zero(model.nv);
        inertia = Eigen::MatrixXd::Zero(model.nv, model.nv);
        jacobian = pinocchio::Data::Matrix6x::Zero(6, model.nv);
    }

    void update(const double *joint_position, const double *joint_velocity)
    {
        q = Eigen::Map<const Eigen::VectorXd>(joint_position, model.nv);
        v = Eigen::Map<const Eigen::VectorXd>(joint_velocity, model.nv);
        pinocchio::crba(model, *data, q, pinocchio::Convention::WORLD);
        inertia.triangularView<Eigen::Upper>() = data->M.triangularView<Eigen::Upper>();
        inertia.triangularView<Eigen::StrictlyLower>() =
            data->M.transpose().triangularView<Eigen::StrictlyLower>();
        const auto &frame = model.frames[tool];
        data->oMf[tool] = data->oMi[frame.parentJoint] * frame.placement;
        pinocchio::getFrameJacobian(model, *data, tool, pinocchio::LOCAL_WORLD_ALIGNED, jacobian);
        position = data->oMf[tool].translation();
        rotation = data->oMf[tool].rotation();
        bias = pinocchio::nonLinearEffects(model, *data, q, v);
        find_drift(frame);
        gravity = pinocchio::computeGeneralizedGravity(model, *data, q);
    }

    // nonLinearEffects gives each joint's spatial acceleration in its own frame, with gravity as one of the base.
    void find_drift(const Model::Frame &frame)
    {
        const auto acceleration = frame.placement.actInv(data->a_gf[frame.parentJoint]);
        const auto velocity = frame.placement.actInv(data->v[frame.parentJoint]);
        drift.head<3>() = rotation * (acceleration.linear() + velocity.angular().cross(velocity.linear())) +
                          model.gravity.linear();
        drift.tail<3>() = rotation * acceleration.angular();
    }

    // Of fixed size, and column by column, for which Eigen has straight code: half as long again otherwise.
    void update_tool()
    {
        const Eigen::Matrix<double, 6, TERMS_ARM> J = jacobian;
        const Eigen::LLT<Square> inertia_factor(inertia);
        Eigen::Matrix<double, TERMS_ARM, 6> weighted = J.transpose();
        solve(inertia_factor.matrixL(), weighted);
        const Six mobility = weighted.transpose().lazyProduct(weighted); // J M^-1 J^T
        solve(inertia_factor.matrixU(), weighted);                       // M^-1 J^T
        const Eigen::LLT<Six> mobility_factor(mobility);
        tool_inertia.setIdentity();
        solve(mobility_factor.matrixL(), tool_inertia);
        solve(mobility_factor.matrixU(), tool_inertia);
        const Eigen::Matrix<double, TERMS_ARM, 6> back = weighted.lazyProduct(tool_inertia);
        null_space = Square::Identity() - J.transpose().lazyProduct(back.transpose());
    }

    template <class Triangle, class Columns> static void solve(const Triangle &triangle, Columns &columns)
    {
        for (int i = 0; i < columns.cols(); i++) {
            auto column = columns.col(i);
            triangle.solveInPlace(column);
        }
    }
};

namespace {

pinocchio::SE3 pose(const double *values)
{
    return pinocchio::SE3(Eigen::Map<const Eigen::Matrix<double, 3, 3, Eigen::RowMajor>>(values),
                          Eigen::Map<const Eigen::Vector3d>(values + 9));
}

// Joints about z have a type of their own, which is faster.
pinocchio::JointIndex add_joint(Model &model, size_t parent, const Eigen::Vector3d &axis,
                                const pinocchio::SE3 &placement, const std::string &name)
{
    if (axis.isApprox(Eigen::Vector3d::UnitZ()))
        return model.addJoint(parent, pinocchio::JointModelRZ(), placement, name);
    return model.addJoint(parent, pinocchio::JointModelRevoluteUnaligned(axis), placement, name);
}

} // namespace

terms_pinocchio *terms_open(const terms_arm *arm)
{
    auto p = std::make_unique<terms_pinocchio>();
    Model &model = p->model;
    model.gravity.linear() = Eigen::Map<const Eigen::Vector3d>(arm->gravity);
    for (int i = 0; i < arm->n; i++) {
        auto id = add_joint(model, size_t(arm->parent[i] + 1), Eigen::Map<const Eigen::Vector3d>(arm->axis[i]),
                            pose(arm->placement[i]), "joint" + std::to_string(i));
        const double *s = arm->inertia[i];
        Eigen::Matrix3d inertia;
        inertia << s[0], s[3], s[4], s[3], s[1], s[5], s[4], s[5], s[2];
        Eigen::Vector3d centre = Eigen::Map<const Eigen::Vector3d>(arm->centre[i]);
        model.appendBodyToJoint(id, pinocchio::Inertia(arm->mass[i], centre, inertia));
        model.armature[model.joints[id].idx_v()] = arm->armature[i];
    }
    p->tool = model.addFrame(
        pinocchio::Frame("tool", size_t(arm->tool_joint + 1), 0, pose(arm->tool), pinocchio::OP_FRAME));
    p->set_up();
    return p.release();
}

void terms_update(terms_pinocchio *pinocchio, const double *q, const double *dq)
{
    pinocchio->update(q, dq);
}

void terms_update_tool(terms_pinocchio *pinocchio)
{
    pinocchio->update_tool();
}

void terms_read(const terms_pinocchio *p, terms *terms)
{
    for (int i = 0; i < p->model.nv; i++) {
        terms->bias[i] = p->bias[i];
        terms->gravity[i] = p->gravity[i];
        for (int j = 0; j < p->model.nv; j++)
            terms->inertia[i][j] = p->inertia(i, j);
        for (int a = 0; a < 6; a++)
            terms->jacobian[a][i] = p->jacobian(a, i);
    }
    for (int a = 0; a < 6; a++) {
        terms->drift[a] = p->drift[a];
        for (int b = 0; b < 6; b++)
            terms->tool_inertia[a][b] = p->tool_inertia(a, b);
    }
    for (int i = 0; i < TERMS_ARM; i++)
        for (int j = 0; j < TERMS_ARM; j++)
            terms->null_space[i][j] = p->null_space(i, j);
    for (int a = 0; a < 3; a++) {
        terms->position[a] = p->position[a];
        for (int b = 0; b < 3; b++)
            terms->rotation[3 * a + b] = p->rotation(a, b);
    }
}
