"""Nothing phones home: no file is left in a fresh HOME and no name is looked up, in a process or in its workers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from paths import ROOT

pytestmark = pytest.mark.slow

# A library that stands before the C library's: it notes every name and every address that a process wants to reach.
HOOK = r"""
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
static void note(const char *what, const char *name) {
  FILE *file = fopen(getenv("REACHED"), "a");
  if (file) { fprintf(file, "%s %s\n", what, name ? name : ""); fclose(file); }
}
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
  note("name", name);
  return EAI_FAIL;
}
struct hostent *gethostbyname(const char *name) { note("name", name); return NULL; }
int connect(int descriptor, const struct sockaddr *address, socklen_t size) {
  if (address->sa_family == AF_INET) {
    char text[64];
    inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, text, sizeof text);
    note("address", text);
  } else if (address->sa_family == AF_INET6) note("address", "IPv6");
  return ((int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "connect"))(descriptor, address, size);
}
"""
SESSION = """
import onnxruntime
from pathlib import Path
onnxruntime.InferenceSession(Path(MODEL).read_bytes(), providers=["CPUExecutionProvider"])
"""
WORK = """
from physai_base.bundle import Bundle
from physai_policy.runtimes import RUNTIMES
def work(name):
    return Bundle.open(name).digest
if __name__ == "__main__":
    import multiprocessing
    [runtime.availability() for runtime in RUNTIMES.values()]
    for method in ("spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            pool.map(work, ["cups/corrector"])
    work("cups/corrector")
"""
TRANSFORMERS = """
from physai_policy.pretrained import _transformers
_transformers().PI0Config
"""
NEEDED = (
    "PATH",
    "LD_LIBRARY_PATH",
    "AMENT_PREFIX_PATH",
    "PYTHONPATH",
    "PYTHONSAFEPATH",
    "VIRTUAL_ENV",
    "LANG",
)
WAIT = "\nimport sys\nprint('done', flush=True)\nsys.stdin.read()\n"
MODEL = ROOT / "models" / "cups" / "corrector" / "model.onnx"


class Watched:
    """A Python program with a HOME of its own and the hook; it ends when told."""

    def __init__(self, folder: Path, hook: Path, program: str) -> None:
        self.home, self._reached = folder / "home", folder / "reached"
        self.home.mkdir(parents=True)
        script = folder / "program.py"
        script.write_text(
            program + (WAIT if "__main__" not in program else WAIT.replace("\n", "\n    ")[:-4])
        )
        # No more than it needs: where CI or the like is set, ONNX Runtime sends nothing of itself, and would show nothing here.
        environment = {key: value for key, value in os.environ.items() if key in NEEDED}
        environment |= {"HOME": str(self.home), "LD_PRELOAD": str(hook), "REACHED": str(self._reached)}
        self.process = subprocess.Popen(
            [sys.executable, str(script)], env=environment, cwd=ROOT,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def wait_until_done(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "done\n"

    @property
    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.home)) for path in self.home.rglob("*") if path.is_file())

    @property
    def reached(self) -> list[str]:
        return self._reached.read_text().splitlines() if self._reached.exists() else []

    def end(self) -> None:
        self.process.communicate("", timeout=60)
        assert self.process.returncode == 0


@pytest.fixture(scope="module")
def hook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hook")
    (folder / "hook.c").write_text(HOOK)
    compiler = [os.environ.get("CC", "cc"), "-shared", "-fPIC", "-o", str(folder / "hook.so")]
    subprocess.run([*compiler, str(folder / "hook.c"), "-ldl"], check=True)
    return folder / "hook.so"


def phones(hook: Path) -> bool:
    """Whether the ONNX Runtime installed here has telemetry at all; 1.23, the last for Python 3.10, has none."""
    import onnxruntime

    libraries = Path(onnxruntime.__file__).parent.glob("capi/*.so*")
    return any(b"ORT_DISABLE_TELEMETRY" in library.read_bytes() for library in libraries)


def told(found: list[str]) -> bool:
    """Whether the telemetry's files or names are among them."""
    return any("microsoft" in name.lower() for name in found)


def test_the_hook_notes_names(hook: Path, tmp_path: Path) -> None:
    program = "import socket\ntry: socket.getaddrinfo('example.invalid', 80)\nexcept OSError: pass"
    watched = Watched(tmp_path, hook, program)
    watched.wait_until_done()
    watched.end()
    assert watched.reached == ["name example.invalid"]


def test_no_file_and_no_name(hook: Path, tmp_path: Path) -> None:
    """As long as ONNX Runtime without the switch needs to show both, everything of ours shows neither."""
    loud = Watched(tmp_path / "loud", hook, SESSION.replace("MODEL", repr(str(MODEL))))
    ours = [
        Watched(tmp_path / "work", hook, WORK),
        Watched(tmp_path / "transformers", hook, TRANSFORMERS),
    ]
    for watched in (loud, *ours):
        watched.wait_until_done()
    if phones(hook):
        until_s = time.monotonic() + 60
        while not (told(loud.files) and told(loud.reached)) and time.monotonic() < until_s:
            time.sleep(0.1)
        assert told(loud.files), "this test would not notice a device id"
        assert told(loud.reached), "this test would not notice a look-up"
    found = [(watched.files, watched.reached) for watched in ours]
    for watched in (loud, *ours):
        watched.end()
    assert found == [([], []), ([], [])]
