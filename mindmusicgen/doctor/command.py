"""`mindmusicgen doctor`: from its arguments to a verdict."""

import os
import time

from ..dtypes import DTYPES, dtype_name
from ..errors import InputError
from ..families import room, rooms_with
from ..ops import native, quantized
from ..runtime import compiled
from ..runtime import device as devices
from ..runtime.files import check_writable
from . import environment, results
from . import operators as operator_checks
from .report import Report

MUSIC_SECONDS, QUICK_SECONDS = 6.0, 2.0  # of music that the benchmark makes


def doctor(arguments, interrupts):
    """Look, check, measure, report.

    Args:
        arguments (argparse.Namespace): device, device_id, dtype, quick and report, of the command line.
        interrupts (Interrupts): asked between checks.

    Returns:
        int: the exit code: 0 if all is well, 1 if not.

    Raises:
        InputError: for arguments that cannot be.
    """
    started = time.perf_counter()
    _check(arguments)
    report = Report(arguments.report)
    report.write()  # now, not after minutes: can it be written?
    report.show(f"What is installed, {report.content['made']}")
    report.facts("installed", environment.facts())
    report.facts("variables", environment.variables())
    report.add(npu_smi=environment.npu_smi())
    for line in report.content["npu_smi"]:
        report.show(f"  {line}")
    try:
        device, dtype = _device(arguments, report)
    except InputError:  # a dtype that this device does not have
        os.remove(arguments.report)
        raise
    report.facts("computing", {"device": device, "dtype": dtype, **_kernels()})
    _run(report, interrupts, device, dtype, arguments.quick)
    report.facts("memory", {"at the peak": f"{(environment.peak_memory() or 0) / 1e9:.2f} GB"})
    return 0 if report.finish(time.perf_counter() - started) else 1


def _check(arguments):
    """Refuse what needs no look at the machine."""
    check_writable(arguments.report, "the report")
    devices.named(arguments.device, arguments.device_id)
    if arguments.dtype not in (None, "auto", *DTYPES):
        raise InputError(f"dtype is {arguments.dtype!r}; expected auto or one of {', '.join(DTYPES)}")


def _kernels():
    """Which C kernels compute, or why none do, and where compiled graphs are kept."""
    return {
        "C kernels": f"no: {native.why_not()}" if native.why_not() else "yes",
        "8-bit kernels": f"no: {quantized.why_not()}" if quantized.why_not() else "yes",
        "graphs in": environment.short(compiled._folder() or "no cache"),  # asked for now: it depends on the device
    }


def _device(arguments, report):
    """(device, dtype) to check on: the one that was asked for, or the CPU if it cannot be used."""
    target, number = devices.named(arguments.device, arguments.device_id)
    target = target or devices.current()[0]
    reason = "" if target == "CPU" else environment.device_sentence(target, number or 0)
    if not reason:
        try:
            devices.use(arguments.device, arguments.device_id)
        except InputError as error:
            reason = str(error)
    if reason:
        report.problem(reason)
        report.note("the checks below run on the CPU in float32, to tell the package from the device")
        devices.use("CPU")
        return "CPU", "float32"
    if target == "Ascend" and environment.cann_sentence():
        report.note(environment.cann_sentence())
    return target, dtype_name(arguments.dtype)


def _run(report, interrupts, device, dtype, quick):
    """All checks and the benchmark; what fails does not keep the rest from running."""

    def run_all(part, listed):
        for check in listed:
            interrupts.check()
            report.running(check.name)
            report.result(results.run(part, check))

    report.show("Operators against their references: largest error, tolerance")
    run_all("operator", operator_checks.checks(device, DTYPES[dtype]))
    opened = {}
    for name in rooms_with("doctor.demo"):
        kind = room(name, "doctor.demo").Demo
        report.show(kind.title)
        try:
            opened[name] = kind(device, dtype)
        except InputError as error:
            report.problem(str(error))
            continue
        run_all("stage", opened[name].checks(quick))
    able = [one for one in opened.values() if hasattr(one, "measure")]
    if not able:
        return
    if not all(result.passed for result in report.results):
        report.note("no benchmark, because something is wrong")
        return
    report.show("A short benchmark on the demo model")
    report.running("benchmark")
    found = able[0].measure(QUICK_SECONDS if quick else MUSIC_SECONDS)
    report.add(benchmark={name: float(f"{value:.4g}") for name, value in found.items()}, running=None)
    report.show(
        f"  {found['step_ms']:.1f} ms a step, {found['codec_ms']:.0f} ms to decode a second, "
        f"{found['real_time_factor']:.2f} s of work for a second of music; {found['music_s']:g} s were made, the first "
        f"time in {found['first_run_s']:.1f} s"
    )
