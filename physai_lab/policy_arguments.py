"""The options of the commands that run policies; apart, so that the command line starts without what computes one."""

from __future__ import annotations

import argparse
from pathlib import Path

from physai_base.resources import defaults
from physai_lab.numbers import count, port, positive, seed

# As where they belong, which a test compares: physai_policy.runtimes, physai_policy.flow_policy, physai_lab.runtimes.verify and
# physai_lab.runtimes.bench_policy, and ServerSettings of physai_policy.remote.server.
PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "fp8")
ENGINE_PRECISIONS = ("fp32", "fp16", "bf16", "fp8")
RUNTIMES = ("onnx", "tensorrt", "torch")
SAMPLES = 8
ORDER = ("torch", "onnx", "tensorrt")
EAGER = "eager"
HOST, PORT = "127.0.0.1", 8000


def add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    """Of `physai serve`."""
    parser.add_argument("bundle", help="policy bundle: a name in models/<task>, TASK/NAME, or a directory")
    parser.add_argument(
        "--robot", default=defaults()["robot"], help="embodiment: an installed name or a file"
    )
    parser.add_argument("--task", default=defaults()["task"], help="task: an installed name or a file")
    parser.add_argument(
        "--host",
        default=HOST,
        help="address to listen on; others than this machine's own need a token and TLS",
    )
    parser.add_argument("--port", type=port, default=PORT, help="port; 0 for any that is free")
    parser.add_argument(
        "--token-file", type=Path, default=None, help="file with the token that clients must send"
    )
    parser.add_argument("--certificate", type=Path, default=None, help="certificate chain (PEM) for TLS")
    parser.add_argument("--key", type=Path, default=None, help="its private key (PEM)")
    parser.add_argument("--runtime", choices=RUNTIMES, default="onnx", help="what computes the policy")
    parser.add_argument("--threads", type=count, default=1, help="threads of one inference")


def add_build_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Of `physai build-engine`."""
    parser.add_argument("bundle", help="a name in models/<task>, TASK/NAME, or a directory")
    parser.add_argument(
        "--precision", choices=ENGINE_PRECISIONS, default="fp32", help="fp8: of a graph quantized elsewhere"
    )
    parser.add_argument(
        "--workspace", type=count, default=1024, metavar="MiB", help="GPU memory that building may use"
    )
    parser.add_argument("--batch", type=count, default=SAMPLES, help="size of the dimension called batch")
    parser.add_argument(
        "--output", default="", metavar="DIR", help="cache to put it into; default: the user's own, ~/.cache"
    )
    parser.add_argument(
        "--rtx", action="store_true", help="take TensorRT-RTX, also where TensorRT is installed"
    )
    parser.add_argument(
        "--compute-capability", default="", metavar="8.6,8.9",
        help="with --rtx: build ahead for these GPUs; needs no GPU here, and the engine is not run or inspected",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="build also when there is a good engine already")
    parser.add_argument(
        "--task", default=defaults()["task"], help="whose bundle, where its name alone is given"
    )


def add_verify_arguments(parser: argparse.ArgumentParser) -> None:
    """Of `physai verify`."""
    parser.add_argument("bundle", help="a name in models/<task>, TASK/NAME, or a directory")
    parser.add_argument(
        "--runtimes", default="", help=f"by commas, of {', '.join(ORDER)}; default: all that work here"
    )
    parser.add_argument(
        "--observations", default="random", metavar="DATASET|random",
        help="a dataset of `physai demos`, or random: drawn within the normalizer's range",
    )  # fmt: skip
    parser.add_argument("--count", type=count, default=200, help="how many observations")
    parser.add_argument("--seed", type=seed, default=0, help="picks them")
    parser.add_argument(
        "--tolerance", type=positive, default=0.002, help="largest difference of a setpoint in m or rad"
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="fp32", help="of a runtime that has it; others take fp32"
    )
    parser.add_argument("--cache", default="", help="where build-engine put the engine")
    parser.add_argument("--providers", default="auto", help="of ONNX Runtime")
    parser.add_argument(
        "--robot", default=defaults()["robot"], help="embodiment: an installed name or a file"
    )
    parser.add_argument("--task", default=defaults()["task"], help="task: an installed name or a file")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where reports go")


def add_golden_arguments(parser: argparse.ArgumentParser) -> None:
    """Of `physai golden`."""
    parser.add_argument(
        "bundle", nargs="+", help="a name in models/<task>, TASK/NAME, or a directory; it is written anew"
    )
    parser.add_argument(
        "--trained-on", action="store_true",
        help="also write that it was trained on the values of --task and --robot: of a bundle that does not say so itself",
    )  # fmt: skip
    parser.add_argument(
        "--interface", action="store_true",
        help="only write what the bundle needs of a robot, which is what --robot has, with which it was made",
    )  # fmt: skip
    parser.add_argument(
        "--robot", default=defaults()["robot"], help="embodiment: an installed name or a file"
    )
    parser.add_argument("--task", default=defaults()["task"], help="task: an installed name or a file")


def add_bench_policy_arguments(parser: argparse.ArgumentParser) -> None:
    """Of `physai bench-policy`."""
    parser.add_argument("bundle", help="a name in models/<task>, TASK/NAME, or a directory")
    parser.add_argument(
        "--runtimes", default=f"onnx,{EAGER}",
        help=f"by commas: {', '.join(RUNTIMES)}, or {EAGER}, the torch loop that LeRobot's users run",
    )  # fmt: skip
    parser.add_argument("--threads", type=count, default=1, help="of the CPU, for each runtime alike")
    parser.add_argument("--rounds", type=count, default=1000, help="inferences of each")
    parser.add_argument("--providers", default="auto", help="of ONNX Runtime")
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="fp32", help="of a runtime that has it; others take fp32"
    )
    parser.add_argument("--cache", default="", help="where build-engine put the engine")
    parser.add_argument("--task", default=defaults()["task"], help="an installed name or a file")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where reports go")
