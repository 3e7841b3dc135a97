"""What a machine has: versions, CANN and driver, processor and memory; and whether the device can be used at all."""

import contextlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from .. import __version__
from ..runtime import device as devices
from ..runtime import memory_limits

PACKAGES = ("mindspore", "numpy", "transformers", "tokenizers", "safetensors", "scipy", "soundfile")
CANN_VARIABLES = ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME")
CANN_FOLDERS = ("/usr/local/Ascend/ascend-toolkit/latest", "/usr/local/Ascend/cann", "~/Ascend/ascend-toolkit/latest")
CANN_FILES = ("compiler/version.info", "opp/version.info", "runtime/version.info", "version.info")
DRIVER = "/usr/local/Ascend/driver/version.info"
VARIABLES = (  # that change what is computed or where; no others are read, for any may hold a password
    *(f"MINDMUSICGEN_{name}" for name in ("CACHE", "CAPTURE", "DEVICE", "FUSED", "KERNELS", "SIMD", "THREADS")),
    *(f"ASCEND_{name}" for name in ("HOME_PATH", "TOOLKIT_HOME", "OPP_PATH", "AICPU_PATH", "CUSTOM_OPP_PATH")),
    *(f"ASCEND_{name}" for name in ("VISIBLE_DEVICES", "RT_VISIBLE_DEVICES", "LAUNCH_BLOCKING", "GLOBAL_LOG_LEVEL")),
    *(f"MS_{name}" for name in ("ROLE", "WORKER_NUM", "NODE_ID", "OM_PATH", "ALLOC_CONF", "JIT_LEVEL", "ENABLE_GE")),
    *("MS_DEV_HOST_BLOCKING_RUN", "RANK_ID", "RANK_SIZE", "DEVICE_ID", "OMP_NUM_THREADS", "GLOG_v"),
)
PROBE_SECONDS = 180
PROBE = "import mindspore as ms; ms.set_device({0!r}, {1}); print((ms.Tensor([1.5]) + 1).asnumpy())"


def facts():
    """What is installed: dict of name to text."""
    found = {"mindmusicgen": __version__, "python": f"{platform.python_version()} on {platform.platform()}"}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    version, folder = cann()
    found["CANN"] = f"{version} in {short(folder)}" if folder else "not found"
    found["driver"] = _version_in(DRIVER) or "not found"
    found["processor"] = f"{_processor()}, {cores()} usable"
    found["memory"] = memory()
    return found


def variables():
    """The environment variables of `VARIABLES` that are set: dict of name to value."""
    return {name: short(os.environ[name]) for name in VARIABLES if name in os.environ}


def short(text):
    """A text without the name of the user, for the report is to be sent on."""
    home = os.path.expanduser("~")
    return str(text).replace(home, "~") if len(home) > 1 else str(text)


def _version_in(path):
    """What a file says after Version=, or None."""
    try:
        found = re.search(r"(?im)^version\s*=\s*(\S+)", Path(path).read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    return found and found[1]


def cann():
    """(version, folder) of CANN; ("", None) if it is not found, and "unknown" for a folder that does not say."""
    named = [os.environ[name] for name in CANN_VARIABLES if os.environ.get(name)]
    for folder in map(os.path.expanduser, (*named, *CANN_FOLDERS)):
        if os.path.isdir(folder):
            versions = (_version_in(os.path.join(folder, name)) for name in CANN_FILES)
            return next(filter(None, versions), "unknown"), folder
    return "", None


def cann_of_mindspore():
    """The versions of CANN that the installed MindSpore says it was made for, such as ("8.2", "8.3"); may be empty."""
    with contextlib.suppress(Exception):  # a module of MindSpore's own, which another version may change
        from mindspore.run_check._check_version import AscendEnvChecker

        return tuple(AscendEnvChecker(None).version)
    return ()


def cann_sentence():
    """What is wrong with CANN in one sentence; an empty string if nothing is."""
    version, folder = cann()
    fitting = cann_of_mindspore()
    wanted = f"CANN {' or '.join(fitting)}" if fitting else "the CANN that MindSpore's installation page names"
    if folder is None:
        return f"CANN was not found: install {wanted}, and run `source set_env.sh` of its folder in this shell"
    if not any(name in os.environ for name in CANN_VARIABLES):
        return f"CANN is in {folder}, but this shell does not know it: run `source {folder}/set_env.sh`"
    short = ".".join(version.split(".")[:2])
    if fitting and version != "unknown" and short not in fitting:
        mindspore = importlib.metadata.version("mindspore")
        return f"CANN {version} does not belong to MindSpore {mindspore}; install {wanted}"
    return ""


def cores():
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _processor():
    with contextlib.suppress(OSError):
        found = re.search(r"(?m)^(?:model name|Model Name)\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text())
        if found:
            return found[1]
    return platform.processor() or platform.machine()


def memory():
    """Memory of the machine, and what this process may have of it, as a text."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        total = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:"))
    except (OSError, StopIteration, ValueError):
        return "unknown"
    room, by = memory_limits.room()
    return f"{total / 1e9:.1f} GB" + (f", {room / 1e9:.1f} left by {by}" if room else "")


def peak_memory():
    """The most memory this process has held, in bytes; None where Linux does not say."""
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        return found and int(found[1]) * 1024
    return None


def npu_smi():
    """What `npu-smi info` says, as a list of lines; empty without it."""
    if not shutil.which("npu-smi"):
        return []
    try:
        done = subprocess.run(["npu-smi", "info"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [f"npu-smi info: {type(error).__name__}"]
    return [line.rstrip() for line in done.stdout[-10_000:].splitlines()]


def device_sentence(device, number, seconds=PROBE_SECONDS):
    """Why a device cannot be used, in one sentence; an empty string if it can.

    One addition is tried on it in a process of its own, which may crash or hang without taking this one along.

    Args:
        device (str): "Ascend".
        number (int): which one.
        seconds (float): how long to wait.
    """
    words = [sys.executable, "-c", PROBE.format(device, number)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return (
            f"device {device}:{number} did not answer within {seconds:g} s; it may be busy: end other programs on it "
            "(npu-smi info lists them), or take another number"
        )
    if done.returncode == 0 and "2.5" in done.stdout:
        return ""
    if missing := cann_sentence():
        return f"device {device}:{number} cannot be used here: {missing}"
    return devices.why_not(device, number, _said(done))


def _said(done):
    """The lines of a failed process that say most: its exceptions', or how it ended."""
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
    telling = [line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception)\b", line) or "[ERROR]" in line]
    code = done.returncode
    ended = f"the attempt ended with signal {-code}" if code < 0 else f"the attempt ended with code {code}"
    return short("\n".join(telling[-20:])) or ended
