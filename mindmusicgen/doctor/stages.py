"""A stage of a model as a check, and what its results may differ by."""

import dataclasses
from collections.abc import Callable

import numpy as np

# Largest error of states and logits, as part of the largest golden value.
TOLERANCES = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 8e-2}
# How far below the best logit a choice may be; graphs that are compiled differently round differently.
CHOICE_TOLERANCES = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 8e-2}
AUDIO_TOLERANCES = {"CPU": 1e-4, "Ascend": 2e-3}  # codecs are float32 everywhere; an NPU approximates exp and tanh


@dataclasses.dataclass
class StageCheck:
    """A stage of a model; like an operator's check it has a name and `run() -> (error, tolerance)`.

    Args:
        name (str): for the table.
        compute (Callable): returns the error, the tolerance and a remark.
        detail (str): the remark of the last run.
    """

    name: str
    compute: Callable
    detail: str = ""

    def run(self):
        """(error, tolerance)"""
        error, tolerance, self.detail = self.compute()
        return error, tolerance


def largest_error(found, expected):
    """Largest difference as part of the largest expected value; infinite for another shape or what is not finite."""
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def part_different(found, expected):
    """Part of whole numbers that differ, of the array where it is the largest; 1 for another shape."""
    pairs = list(zip(found, expected, strict=True))
    if any(one.shape != other.shape for one, other in pairs):
        return 1.0
    return float(max((one != other).mean() for one, other in pairs))
