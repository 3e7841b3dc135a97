"""Exercises of the course and their checker.

    from mindmusicgen.exercises import check
    check("delay_pattern", my_function)

says whether a student's function does what the package's own does, and if not, what is wrong with it. Teachers mark
a folder of notebooks with `python -m mindmusicgen.exercises FOLDER`.
"""

from .catalogue import EXERCISES
from .checker import Outcome, check, examine

__all__ = ["EXERCISES", "Outcome", "check", "examine"]
