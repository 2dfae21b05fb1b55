"""Chunks, verdicts on them and what is imagined of them."""

from __future__ import annotations

import numpy as np

from physai.msg import ActionChunk as ActionChunkMsg
from physai.msg import ChunkVerdict as ChunkVerdictMsg
from physai.msg import WorldPrediction as WorldPredictionMsg
from physai_base.values import POSE, ActionChunk, ChunkMode, ChunkVerdict, VerdictReason, WorldPrediction
from physai_ros.conversions.basic import (
    MessageError,
    check_unit,
    doubles,
    duration_from_msg,
    duration_to_msg,
    header,
    number,
    numbers,
    point_to_msg,
    time_from_msg,
    time_to_msg,
    vector_from_msg,
)


def chunk_to_msg(chunk: ActionChunk, stamp_ns: int, frame_id: str) -> ActionChunkMsg:
    """A chunk, published at `stamp_ns`."""
    message = ActionChunkMsg(header=header(stamp_ns, frame_id), sequence=chunk.sequence, policy=chunk.policy)
    message.lease = chunk.lease
    message.observation_stamp = time_to_msg(chunk.observation_ns)
    message.start_stamp = time_to_msg(chunk.start_ns)
    message.dt = duration_to_msg(chunk.dt_ns)
    message.mode = int(chunk.mode)
    message.joint_names, message.end_effectors = list(chunk.joint_names), list(chunk.end_effectors)
    message.horizon = chunk.horizon
    message.values = doubles(chunk.values)
    message.opening = doubles(chunk.openings)
    message.uncertainty = float(chunk.uncertainty)
    message.expiry = time_to_msg(chunk.expiry_ns)
    return message


def chunk_from_msg(message: ActionChunkMsg) -> ActionChunk:
    """A chunk whose arrays agree; its horizon is what they hold, and the field that says so must agree as well."""
    try:
        mode = ChunkMode(message.mode)
    except ValueError:
        raise MessageError(
            f"chunk: unknown mode {message.mode}; allowed: 0 (joint position), 1 (tool pose)"
        ) from None
    ends = len(message.end_effectors) or 1
    if len(set(message.end_effectors)) != len(message.end_effectors):
        raise MessageError(f"chunk: end effectors must differ, got {list(message.end_effectors)}")
    columns = len(message.joint_names) if mode is ChunkMode.JOINT_POSITION else POSE * ends
    if not columns or len(set(message.joint_names)) != len(message.joint_names):
        raise MessageError(f"chunk: joint names must be given and differ, got {list(message.joint_names)}")
    steps, rest = divmod(len(message.opening), ends)
    if rest or not steps or len(message.values) != steps * columns or message.horizon != steps:
        raise MessageError(
            f"chunk: horizon {message.horizon} with {columns} columns does not fit {len(message.values)} values "
            f"and {len(message.opening)} openings of {ends} end effectors"
        )
    values = numbers(message.values, steps * columns, "chunk: values").reshape(steps, columns)
    if mode is ChunkMode.TCP_POSE:
        for quaternion in values.reshape(-1, POSE)[:, 3:]:
            check_unit(quaternion, "chunk: orientation")
    dt_ns = duration_from_msg(message.dt)
    if dt_ns <= 0:
        raise MessageError(f"chunk: dt must be positive, got {dt_ns} ns")
    if message.sequence < 1:
        raise MessageError("chunk: sequence numbers count from 1")
    if message.lease < 1:
        raise MessageError("chunk: lease is 0; a policy draws a random number other than 0 when it starts")
    return ActionChunk(
        sequence=int(message.sequence),
        policy=message.policy,
        observation_ns=time_from_msg(message.observation_stamp),
        start_ns=time_from_msg(message.start_stamp),
        dt_ns=dt_ns,
        mode=mode,
        joint_names=tuple(message.joint_names),
        values=values,
        openings=numbers(message.opening, steps * ends, "chunk: opening").reshape(steps, ends),
        uncertainty=number(message.uncertainty, "chunk: uncertainty", 0.0),
        expiry_ns=time_from_msg(message.expiry),
        lease=int(message.lease),
        end_effectors=tuple(message.end_effectors),
    )


def end_to_msg(lease: int, stamp_ns: int, frame_id: str) -> ActionChunkMsg:
    """That the chunk of that lease, if one is followed, shall end now."""
    return ActionChunkMsg(header=header(stamp_ns, frame_id), lease=lease)


def is_end(message: ActionChunkMsg) -> bool:
    """Whether a message is no chunk but the end of one."""
    return message.horizon == 0 and not message.values and not message.opening and message.lease != 0


def verdict_to_msg(verdict: ChunkVerdict, frame_id: str) -> ChunkVerdictMsg:
    """A verdict."""
    return ChunkVerdictMsg(
        header=header(verdict.stamp_ns, frame_id),
        sequence=verdict.sequence,
        lease=verdict.lease,
        allow=bool(verdict.allow),
        reason=verdict.reason.value,
        detail=verdict.detail,
        risk=float(verdict.risk),
        uncertainty=float(verdict.uncertainty),
        ood_score=float(verdict.ood_score),
        ood_threshold=float(verdict.ood_threshold),
    )


def verdict_from_msg(message: ChunkVerdictMsg) -> ChunkVerdict:
    """A verdict; one that allows must give `ok` as its reason."""
    try:
        reason = VerdictReason(message.reason)
    except ValueError:
        allowed = ", ".join(r.value for r in VerdictReason)
        raise MessageError(f"verdict: unknown reason {message.reason!r}; allowed: {allowed}") from None
    if message.allow != (reason is VerdictReason.OK):
        raise MessageError(f"verdict: allow is {message.allow} but the reason is {reason.value}")
    if message.lease < 1:
        raise MessageError("verdict: lease is 0; it repeats the chunk's lease")
    return ChunkVerdict(
        stamp_ns=time_from_msg(message.header.stamp),
        sequence=int(message.sequence),
        allow=bool(message.allow),
        reason=reason,
        detail=message.detail,
        risk=number(message.risk, "verdict: risk", 0.0, 1.0),
        uncertainty=number(message.uncertainty, "verdict: uncertainty", 0.0),
        ood_score=number(message.ood_score, "verdict: ood_score"),
        ood_threshold=number(message.ood_threshold, "verdict: ood_threshold"),
        lease=int(message.lease),
    )


def prediction_to_msg(prediction: WorldPrediction, frame_id: str) -> WorldPredictionMsg:
    """A prediction."""
    message = WorldPredictionMsg(header=header(prediction.stamp_ns, frame_id), sequence=prediction.sequence)
    message.dt = duration_to_msg(prediction.dt_ns)
    message.tcp = [point_to_msg(p) for p in prediction.tcp_position_m]
    message.object_labels = list(prediction.object_labels)
    message.object_positions = [point_to_msg(p) for p in prediction.object_position_m.reshape(-1, 3)]
    message.uncertainty = doubles(prediction.uncertainty)
    return message


def prediction_from_msg(message: WorldPredictionMsg) -> WorldPrediction:
    """A prediction whose arrays have one row for each step."""
    steps, things = len(message.tcp), len(message.object_labels)
    if len(message.object_positions) != steps * things:
        raise MessageError(
            f"prediction: {steps} steps of {things} objects do not fit {len(message.object_positions)} positions"
        )
    tcp = [vector_from_msg(p, "prediction: tcp") for p in message.tcp]
    positions = [vector_from_msg(p, "prediction: object position") for p in message.object_positions]
    return WorldPrediction(
        stamp_ns=time_from_msg(message.header.stamp),
        sequence=int(message.sequence),
        dt_ns=duration_from_msg(message.dt),
        tcp_position_m=np.array(tcp).reshape(steps, 3),
        object_labels=tuple(message.object_labels),
        object_position_m=np.array(positions).reshape(steps, things, 3),
        uncertainty=numbers(message.uncertainty, steps, "prediction: uncertainty"),
    )
