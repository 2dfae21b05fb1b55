"""`physai serve`: one policy for openpi's clients and for physai's own."""

from __future__ import annotations

import argparse


def serve(options: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    from physai_base.embodiment import Embodiment
    from physai_base.errors import PhysaiError
    from physai_base.kinematics import ArmKinematics
    from physai_base.task import Task
    from physai_policy.loading import load_policy
    from physai_policy.policy import example_observation, takes_features
    from physai_policy.remote.server import ObservationReader, PolicyServer, ServerSettings
    from physai_policy.runtimes import RuntimeOptions
    from physai_policy.vision import VisionPolicy

    settings = ServerSettings(
        options.host, options.port, options.token_file, options.certificate, options.key
    )
    embodiment, task = Embodiment.load(options.robot), Task.load(options.task)
    runtime_options = RuntimeOptions(threads=options.threads)
    policy = load_policy(options.bundle, embodiment, task, options.runtime, runtime_options)
    if isinstance(policy, VisionPolicy):
        raise PhysaiError(
            f"{policy.name}: needs to know the goal, for which openpi's protocol has no place; run it in the stack"
        )
    names = task.feature_names() if takes_features(policy) else ()
    reader = ObservationReader(names, len(embodiment.joints))
    server = PolicyServer(policy, reader, settings, {"robot": embodiment.name, "task": task.name})

    def ready() -> None:
        scheme = "wss" if settings.certificate else "ws"
        print(f"serve: {policy.name} on {scheme}://{settings.host}:{server.port}, Ctrl-C ends it", flush=True)

    server.run(example_observation(embodiment, task, ArmKinematics(embodiment)), ready)
    print(f"serve: {server.answered} inferences")
    return 0
