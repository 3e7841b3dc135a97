"""What an exercise consists of.

An exercise knows the right answer, which is the package's own function, and the answers that typical mistakes give.
A student's answer that equals one of these on every case has that mistake, and can be told so.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Text:
    """One message in English and in Chinese; `{name}` is filled in by `say`."""

    en: str
    zh: str

    def say(self, language, **values):
        """The message in "en" or "zh"."""
        return (self.zh if language == "zh" else self.en).format(**values)


@dataclass(frozen=True)
class Case:
    """One call of the student's function.

    Attributes:
        label: what is special about it.
        arguments: what it is called with.
        hint: what is probably wrong if this is the first case that fails and no known mistake explains it.
    """

    label: Text
    arguments: tuple
    hint: Text | None = None


@dataclass(frozen=True)
class Mistake:
    """A typical mistake: what a function that makes it returns, and what to tell the student."""

    answer: Callable
    text: Text


def same(answer):
    """The answer is compared as it is."""
    return answer


@dataclass(frozen=True)
class Exercise:
    """One function that students write.

    Attributes:
        name: of the exercise, and of the function in the notebook.
        parameters: their names, as in "codes, pad".
        axes: names of the axes of what it returns.
        cases: a function that makes them.
        reference: the right answer, by the package's own code.
        mistakes: tried in this order.
        whole: whether the answer is whole numbers.
        clips: whether the answer is a list of arrays rather than one array.
        tidy: what is done to an answer before it is compared.
        notes: pairs of a test of an array and what to say besides if it holds, of answers that are right too.
    """

    name: str
    parameters: str
    axes: tuple
    cases: Callable
    reference: Callable
    mistakes: tuple
    whole: bool = False
    clips: bool = False
    tidy: Callable = same
    notes: tuple = ()

    @property
    def signature(self):
        """How the function is called."""
        return f"{self.name}({self.parameters})"

    def agree(self, found, expected):
        """Whether two answers are the same, up to rounding."""
        if self.clips:
            return len(found) == len(expected) and all(map(self.agree_on, found, expected))
        return self.agree_on(found, expected)

    def agree_on(self, found, expected):
        """The same for one array."""
        if found.shape != expected.shape:
            return False
        return bool(self.close(found, expected).all())

    def close(self, found, expected):
        """Where two arrays of one shape agree: booleans."""
        if self.whole:
            return found == expected
        finite = expected[np.isfinite(expected)]
        tolerance = 1e-4 * max(1.0, np.abs(finite).max(initial=0))
        return np.isclose(self.tidy(found), self.tidy(expected), rtol=0, atol=tolerance)
