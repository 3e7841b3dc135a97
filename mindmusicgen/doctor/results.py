"""What became of a check, and how one is run."""

import dataclasses
import time

import numpy as np


@dataclasses.dataclass
class Result:
    """What became of a check.

    Attributes:
        part (str): "operator" or "stage".
        name (str): of the operator or stage.
        error, tolerance (float): None if it could not run.
        passed (bool): whether the error is finite and within the tolerance.
        seconds (float): taken, compiling included.
        detail (str): a remark, or why it could not run.
    """

    part: str
    name: str
    error: float | None
    tolerance: float | None
    passed: bool
    seconds: float
    detail: str


def run(part, check):
    """Run a check, whatever it raises; returns a `Result`."""
    started = time.perf_counter()
    try:
        error, tolerance = check.run()
    except Exception as failure:  # an operator without a kernel, too little memory, a driver's error: all are results
        reason = f"{type(failure).__name__}: {failure}".strip().splitlines()[0][:300]
        return Result(part, check.name, None, None, False, time.perf_counter() - started, reason)
    passed = bool(np.isfinite(error) and error <= tolerance)
    detail = getattr(check, "detail", "")
    return Result(part, check.name, float(error), float(tolerance), passed, time.perf_counter() - started, detail)
