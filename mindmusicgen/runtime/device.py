"""The device that computes: the one place that chooses it, prepares it, and says in a sentence why it cannot be used.

What concerns Ascend was written from MindSpore's documentation and sources and has not run on an NPU yet.
"""

import contextlib
import os
import re
import warnings

import mindspore as ms
import numpy as np

from ..errors import InputError, shown
from . import memory_limits

ENVIRONMENT = "MINDMUSICGEN_DEVICE"  # CPU, Ascend or Ascend:1, where nothing else is named
IN_CALLER = "MS_DEV_HOST_BLOCKING_RUN"  # MindSpore's; read at its first operation
CAPTURE = "MINDMUSICGEN_CAPTURE"  # 0: do not try to capture launches on Ascend
TARGETS = {"cpu": "CPU", "ascend": "Ascend"}
UNROLLED = 5  # decode steps in a captured graph; each makes compiling longer
NO_MEMORY = re.compile(
    r"out of memory|memory not enough|memory (is )?insufficient|bad_alloc|Memory_Allocation_Failure|EL0004|207001"
    r"|(malloc|allocate|alloc)\w* [^.\n]{0,60}(memory|failed)|cannot apply for such a large amount of memory",
    re.IGNORECASE,
)
BUSY = re.compile(r"507033|507899|EJ0001|\bbusy\b|occupied|in use", re.IGNORECASE)
NO_SUCH_ID = re.compile(r"107001|invalid device|input data rang", re.IGNORECASE)
COUNTED = re.compile(r"device count\[(\d+)\]")
NO_CANN = re.compile(r"(lib[\w.+-]+): cannot open shared object file|ASCEND_\w+ is not set", re.IGNORECASE)
WRONG_CANN = re.compile(r"undefined symbol:? ?[\w@.]*|version `[^']+' not found[^.\n]*", re.IGNORECASE)
_used = None  # (target, id) that `use` has set


def named(device=None, device_id=None):
    """What a device's name says.

    Args:
        device (str): CPU, Ascend, or Ascend:1 for the second NPU; None: what MINDMUSICGEN_DEVICE says, if anything.
        device_id (int): the NPU's number. One process of several (msrun) has its own, which only a number given here,
            or behind the colon, replaces.

    Returns:
        tuple: "CPU", "Ascend" or None if nothing is named; the number, or None.

    Raises:
        InputError: if that is no device.
    """
    rank, asked, source = _rank_number(), device, "device"
    if device is None:
        asked, source = os.environ.get(ENVIRONMENT) or None, f"{ENVIRONMENT} in the environment"
    if asked is None and device_id is None:
        return None, rank
    name, colon, digits = ("Ascend" if asked is None else str(asked)).strip().partition(":")
    target = TARGETS.get(name.lower())
    if target is None or colon and not digits.isdecimal():
        raise InputError(f"{source} is {shown(asked)}; expected CPU, Ascend, or Ascend:1 for the second NPU")
    number = int(digits) if colon else None
    if device_id is not None:
        if isinstance(device_id, bool) or not isinstance(device_id, int) or device_id < 0:
            raise InputError(f"device id is {shown(device_id)}; expected a whole number of at least 0")
        if device is not None and number not in (None, device_id):
            raise InputError(f"device is {device!r} and device id {device_id}; give one of the two numbers")
        number = device_id
    if target == "CPU":
        if number:
            raise InputError(f"device is CPU and its number {number}; a CPU has no number, leave it out")
        return target, None
    if rank is not None and device_id is None and (device is None or number is None):
        number = rank
    return target, number


def _rank_number():
    """The NPU that msrun gives this process, or None."""
    number = os.environ.get("DEVICE_ID", "") if "RANK_ID" in os.environ else ""
    return int(number) if number.isdecimal() else None


def use(device=None, device_id=None):
    """Compute on a device from now on, and prepare it. What MindSpore has begun to use stays if nothing is named.

    Args:
        device (str), device_id (int): as in `named`.

    Raises:
        InputError: if there is no such device, it cannot be used, or this process already computes on another.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    global _used
    wanted = _wanted(device, device_id)
    if wanted is None:
        return
    now = current()
    if not _has_begun(now[0]):
        _set(*wanted)
    elif wanted != now:
        raise InputError(
            f"this process already computes on {_said(*now)} and cannot change to {_said(*wanted)}; "
            "name the device before the first model is opened, or start a new process"
        )
    if wanted[0] == "Ascend" and not _used:
        _prepare()
        _open(*wanted)
    _used = wanted


def _wanted(device, device_id):
    """The device that is to compute, (target, number); None if it does already and needs no preparing."""
    target, number = named(device, device_id)
    now_target, now_number = current()
    call_names_none = device is None and device_id is None
    if target is None or call_names_none and _has_begun(now_target):  # what computes stays, MindSpore's choice at first
        if now_target == "CPU" or _used:
            return None
        target = now_target
    if number is None:
        number = now_number if target == now_target else 0
    return target, number


def _has_begun(target):
    """Whether this process computes on a device already, by this package's doing or not."""
    return _used is not None or _begun(target)


def current():
    """The device in use, or that MindSpore would use: its name, CPU or Ascend, and number."""
    target, number = ms.get_current_device()
    return target, number if target == "Ascend" else 0


def is_ascend():
    """Whether computing happens on an NPU."""
    return current()[0] == "Ascend"


def _said(target, number):
    return f"{target}:{number}" if number else target


def _begun(target):
    """Whether MindSpore has opened a device already; then it cannot change any more."""
    ask = getattr(getattr(ms, "hal", None), "is_initialized", None)
    return bool(ask and ask(target))


def _set(target, number):
    try:
        ms.set_device(target, number)
    except (RuntimeError, ValueError) as error:
        raise InputError(why_not(target, number, str(error))) from error
    _run_in_caller()


def _run_in_caller():
    """On a CPU, let graphs run in the thread that calls them.

    MindSpore 2.10 runs them in a thread of its own, and the caller waits for it in an empty loop (AsyncRQueue::Wait),
    which takes a core from the computing. On an NPU the host only launches, and goes on while that computes.
    """
    if current()[0] == "CPU":
        os.environ.setdefault(IN_CALLER, "1")


def _prepare():
    """Settings of an NPU: float32 products and convolutions in float32, not in HF32 with its 11 bits."""
    precision = getattr(getattr(getattr(ms, "device_context", None), "ascend", None), "op_precision", None)
    for name in ("matmul_allow_hf32", "conv_allow_hf32"):
        if hasattr(precision, name):
            with contextlib.suppress(RuntimeError):  # the user has chosen otherwise
                getattr(precision, name)(False)


def _open(target, number):
    """Compute something small: MindSpore opens an NPU no earlier than that."""
    try:
        (ms.Tensor(np.ones(1, np.float32)) + 1).asnumpy()
    except (RuntimeError, ValueError) as error:
        raise InputError(why_not(target, number, str(error))) from error


def why_not(target, number, said):
    """A sentence for what MindSpore or CANN said when a device could not be used.

    Args:
        target (str): CPU or Ascend.
        number (int): the NPU's number.
        said (str): the message.
    """
    device = f"device {_said(target, number)} cannot be used here"
    fix = "or compute on the CPU with --device CPU, device='CPU'"
    if wrong := WRONG_CANN.search(said):
        fits = f"CANN does not fit MindSpore {ms.__version__} ({wrong.group(0)})"
        return f"{device}: {fits}; install the CANN it needs, {fix}"
    if missing := NO_CANN.search(said):
        what = f"{missing.group(1)} is missing" if missing.group(1) else missing.group(0)
        return f"{device}: CANN was not found ({what}); install it and source its set_env.sh, {fix}"
    count = _count(said)
    if NO_SUCH_ID.search(said) or count and number >= count:
        there = f"this machine has {count}, numbered from 0" if count else "npu-smi info lists the numbers"
        return f"{device}: there is no NPU with that number; {there}, {fix}"
    if NO_MEMORY.search(said):
        return f"{device}: its memory is full; end other programs on it (npu-smi info lists them), {fix}"
    if BUSY.search(said):
        return f"{device}: it is busy; end other programs on it (npu-smi info lists them), take another number, {fix}"
    reason = said.strip().split(". ")[0].splitlines()[0] if said.strip() else "no reason given"
    return f"{device} ({reason}); see what npu-smi info says, {fix}"


def _count(said):
    """NPUs in this machine, from a message or from MindSpore; None if neither knows."""
    if counted := COUNTED.search(said):
        return int(counted.group(1))
    with contextlib.suppress(Exception):
        return ms.device_context.ascend.device_count()


def is_memory_error(error):
    """Whether an exception says that memory was too small: Python's, or one of MindSpore's RuntimeErrors."""
    return isinstance(error, MemoryError) or isinstance(error, RuntimeError) and bool(NO_MEMORY.search(str(error)))


def memory_for_us():
    """Bytes that this process could have in all, what it has now included; None if nobody knows.

    On an NPU what is free there and what MindSpore's pool holds; on a CPU see `memory_limits`.
    """
    with contextlib.suppress(Exception):  # interfaces that MindSpore calls deprecated or experimental
        if is_ascend():
            number = current()[1]
            return ms.hal.get_device_properties(number).free_memory + ms.runtime.memory_reserved()
    return memory_limits.room()[0]


def captures():
    """Whether launches are to be captured: on an NPU, where MindSpore offers it, unless MINDMUSICGEN_CAPTURE is 0."""
    offered = hasattr(getattr(ms, "runtime", None), "set_kernel_launch_capture")
    return is_ascend() and offered and os.environ.get(CAPTURE) != "0"


def captured(run, cell, otherwise):
    """A compiled function whose launches on an NPU are recorded once and then replayed as one.

    MindSpore captures graphs of the phase "increment" alone, and none with a loop; while capture is on, a graph that
    it cannot capture may be refused. So it is on for this function only, and if the first call fails, it stays off.
    In those sources of MindSpore that could be read it also wants a graph whose shapes may vary, which ours never are.

    Args:
        run (callable): the compiled function, a graph without loops, from tensors to tensors.
        cell (nn.Cell): the cell whose method it is, and of which nothing else is compiled.
        otherwise (callable): does the same without capture; called in place of `run` once that has failed.
    """
    cell.phase, works = "increment", None

    def call(*arguments):
        nonlocal works
        if works is not False:
            ms.runtime.set_kernel_launch_capture(True)
            try:
                made = run(*arguments)
                works = True
                return made
            except RuntimeError as error:
                if works:
                    raise
                said = (str(error).strip().splitlines() or ["nothing"])[0]
                warnings.warn(f"launches are not captured, because MindSpore said: {said}", stacklevel=2)
                works = False
            finally:
                ms.runtime.set_kernel_launch_capture(False)
        return otherwise(*arguments)

    return call


_run_in_caller()
