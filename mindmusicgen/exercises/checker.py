"""`check`: calls a student's function on an exercise's cases and says what is wrong.

The order of the explanations: no answer at all, then no array of numbers, then a typical mistake that gives exactly
this answer, then the shape, then the first number that differs.
"""

import functools
import inspect
import sys
from dataclasses import dataclass

import numpy as np

from ..language import current, of
from . import texts
from .catalogue import EXERCISES
from .running import AGAIN, Failure, Limited, call, guarded

SHOWN = 64  # numbers of an array that are still printed


@dataclass(frozen=True)
class Outcome:
    """What `examine` found.

    Attributes:
        passed (bool): whether the function is right.
        message (str): one to a few lines for the student.
    """

    passed: bool
    message: str


def check(name, function=None, language=None):
    """Check a solution and print what was found.

    Args:
        name (str): the exercise, one of `EXERCISES`.
        function (callable): the student's solution.
        language (str): "en" or "zh"; None follows the computer's.

    Returns:
        bool: whether it is right.
    """
    outcome = examine(name, function, language)
    print(("✓ " if outcome.passed else "✗ ") + outcome.message)
    return outcome.passed


def examine(name, function, language=None):
    """What `check` prints, as an `Outcome`; raises nothing but KeyboardInterrupt."""
    language = current() if language is None else of(language)
    if not isinstance(name, str) or name not in EXERCISES:
        return Outcome(False, texts.UNKNOWN.say(language, name=_short(name), names=", ".join(EXERCISES)))
    exercise = EXERCISES[name]
    try:
        wrong = _not_callable(exercise, function, language)
        return Outcome(False, f"{name}: {wrong}") if wrong else _examine(exercise, function, language)
    except Exception as error:  # an answer stranger than any that was thought of here
        return Outcome(False, texts.STRANGE.say(language, name=name, reason=f"{_kind(error)}: {_short(error)}"))


@functools.cache
def _right(exercise):
    """The right answer to each case, computed once: a class has many students."""
    return tuple(exercise.reference(*case.arguments) for case in exercise.cases())


def _examine(exercise, function, language):
    """Go through the cases up to the first that is wrong."""
    stream, notes, cases = Limited(sys.stdout), set(), exercise.cases()
    for number, case in enumerate(cases):
        expected = _right(exercise)[number]
        try:
            found = _answer(exercise, function, case, len(expected), stream, notes)
        except Failure as failure:
            wrong = _failed(failure, language)
        except _NoAnswer as answer:
            wrong = answer.text.say(language, **answer.values)
        else:
            if exercise.agree(found, expected):
                continue
            wrong = _explain(exercise, function, cases, number, found, expected, stream, language)
        label = case.label.say(language)
        return Outcome(False, texts.WRONG.say(language, name=exercise.name, label=label, wrong=wrong))
    message = texts.RIGHT.say(language, name=exercise.name, cases=len(cases))
    return Outcome(True, "\n  ".join([message, *sorted(note.say(language) for note in notes)]))


def _not_callable(exercise, function, language):
    """What is wrong with what was given as a function; None if it can be called."""
    if function is None:
        return texts.NO_FUNCTION.say(language, signature=exercise.signature, name=exercise.name)
    if not callable(function):
        return texts.NOT_A_FUNCTION.say(language, kind=_kind(function), name=exercise.name)
    count = len(exercise.parameters.split(","))
    try:
        signature = inspect.signature(function)
    except Exception:  # built-in functions have none; calling them will tell
        return None
    try:
        signature.bind(*range(count))
    except TypeError:
        return texts.SIGNATURE.say(language, count=count, signature=exercise.signature, found=_short(signature))


class _NoAnswer(Exception):
    """What came back is no array of numbers."""

    def __init__(self, text, **values):
        super().__init__(text.en)
        self.text, self.values = text, values


def _answer(exercise, function, case, count, stream, notes, seconds=None):
    """The student's answer to a case as an array, or as a list of `count` arrays."""
    answer, changed = call(function, case.arguments, seconds, stream)
    if changed:
        notes.add(texts.CHANGED)
    if exercise.clips:
        return _clips(answer, count)
    found = _array(answer)
    if not found.size:
        raise _NoAnswer(texts.EMPTY)
    if exercise.whole and found.dtype.kind == "f" and np.array_equal(found, np.round(found)):
        notes.add(texts.FLOATS)
    notes.update(text for test, text in exercise.notes if test(found))
    return found


def _array(answer):
    """An array of real numbers.

    Raises:
        _NoAnswer: if the answer is none.
    """
    if answer is None:
        raise _NoAnswer(texts.NONE)
    if answer is Ellipsis:
        raise _NoAnswer(texts.GAP)
    if isinstance(answer, (str, bytes, dict, set)) or (hasattr(answer, "__next__") and not hasattr(answer, "shape")):
        raise _NoAnswer(texts.NOT_AN_ARRAY, kind=_kind(answer))  # a generator may be endless: it is not asked
    try:
        with guarded():
            found = np.asarray(answer.asnumpy() if hasattr(answer, "asnumpy") else answer)
    except Failure as failure:
        if isinstance(answer, (list, tuple)):
            raise _NoAnswer(texts.RAGGED) from None
        raise _NoAnswer(texts.NOT_AN_ARRAY, kind=f"{_kind(answer)}, {_short(failure.error)}") from None
    if found.dtype.kind not in "biuf":
        raise _NoAnswer(texts.NOT_NUMBERS, kind=found.dtype)
    return found


def _clips(answer, count):
    """A list of `count` arrays."""
    if answer is None or answer is Ellipsis:
        return _array(answer)
    if not isinstance(answer, (list, tuple, np.ndarray)):
        raise _NoAnswer(texts.NOT_A_LIST, kind=_kind(answer))
    if len(answer) != count:
        raise _NoAnswer(texts.CLIPS, found=len(answer), expected=count)
    return [_array(clip) for clip in answer]


def _failed(failure, language):
    """Why there is no answer."""
    if failure.kind == "error":
        error = failure.error
        reason = f"{type(error).__name__}: {_short(error)}" if _short(error) else type(error).__name__
        place = texts.LINE.say(language, line=failure.line) if failure.line else ""
        return texts.RAISED.say(language, reason=reason, place=place)
    return {"time": texts.TIME, "gap": texts.GAP, "stopped": texts.STOPPED}[failure.kind].say(language)


def _explain(exercise, function, cases, number, found, expected, stream, language):
    """What is wrong with the answer to case `number`, the first that is wrong."""
    again = _again(exercise, function, cases, number, stream)
    if again is not None and not _identical(exercise, again, found):
        return texts.RANDOM.say(language)
    mistake = _mistake(exercise, function, cases, number, found, stream)
    if mistake is not None:
        return mistake.text.say(language)
    pairs = list(zip(found, expected, strict=True)) if exercise.clips else [(found, expected)]
    place, (one, right) = next((place, pair) for place, pair in enumerate(pairs) if not exercise.agree_on(*pair))
    clip = texts.CLIP.say(language, number=place) if exercise.clips else ""
    if one.shape != right.shape:
        return clip + _shape(exercise, one, right, language)
    hint = "\n  " + cases[number].hint.say(language) if cases[number].hint else ""
    return clip + _values(exercise, one, right, language) + hint


def _again(exercise, function, cases, number, stream):
    """The answer to a case once more, or None if there is none."""
    try:
        return _answer(exercise, function, cases[number], len(_right(exercise)[number]), stream, set(), AGAIN)
    except (Failure, _NoAnswer):
        return None


def _identical(exercise, found, other):
    pairs = zip(found, other, strict=True) if exercise.clips else [(found, other)]
    return all(np.array_equal(one, two, equal_nan=one.dtype.kind == two.dtype.kind == "f") for one, two in pairs)


def _mistake(exercise, function, cases, number, found, stream):
    """The typical mistake that gives the student's answers to all cases, of which those before `number` are right."""
    candidates = list(exercise.mistakes)
    for position in (number, *range(number), *range(number + 1, len(cases))):
        case, answer = cases[position], found
        if position < number:
            answer = _right(exercise)[position]
        elif position > number:
            answer = _again(exercise, function, cases, position, stream)
        if answer is not None:
            candidates = [mistake for mistake in candidates if _makes(exercise, mistake, case, answer)]
        if not candidates:
            return None
    return candidates[0]


def _makes(exercise, mistake, case, found):
    """Whether a mistake leads to this answer."""
    try:
        with np.errstate(all="ignore"):
            wrong = mistake.answer(*case.arguments)
        return exercise.agree(found, wrong)
    except (ValueError, IndexError):  # a mistake that leads nowhere on this case
        return False


def _shape(exercise, found, expected, language):
    """How a shape differs."""
    values = {"found": found.shape, "expected": expected.shape, "axes": texts.axes(exercise.axes, language)}
    base = texts.SHAPE.say(language, **values)
    if found.ndim != expected.ndim:
        return base + texts.DIMENSIONS.say(language, found=found.ndim, expected=expected.ndim)
    if found.ndim == 2 and found.shape == expected.shape[::-1]:
        return base + texts.TRANSPOSED.say(language)
    wrong = [axis for axis in range(found.ndim) if found.shape[axis] != expected.shape[axis]]
    if len(wrong) == 1:
        axis = wrong[0]
        more = found.shape[axis] - expected.shape[axis]
        text = texts.MORE if more > 0 else texts.FEWER
        return base + text.say(language, count=abs(more), axis=texts.axis(exercise.axes[axis], language))
    return base


def _values(exercise, found, expected, language):
    """Which numbers differ, and both arrays if they are small."""
    if found.dtype.kind == "f" and np.isnan(found).any():
        return texts.NAN.say(language, count=int(np.isnan(found).sum()))
    differ = ~exercise.close(found, expected)
    place = tuple(int(i) for i in np.argwhere(differ)[0]) if found.ndim else ()
    named = ", ".join(f"{texts.axis(name, language)} {i}" for name, i in zip(exercise.axes, place, strict=True))
    message = texts.DIFFERS.say(
        language,
        count=int(differ.sum()),
        size=found.size,
        place=named,
        found=_number(found[place]),
        expected=_number(expected[place]),
    )
    if found.size > SHOWN:
        return message
    # Scaled by the largest number, an array would be hard to compare with the other one.
    with np.printoptions(precision=3, suppress=True, linewidth=110):
        return message + texts.BOTH.say(language, found=found, expected=expected)


def _number(value):
    return f"{value:.5g}" if isinstance(value, np.floating) else str(value)


def _kind(value):
    return type(value).__name__


def _short(value):
    """The first line of what an object prints as, if it can."""
    try:
        lines = str(value).strip().splitlines()
    except Exception:
        return _kind(value)
    return lines[0][:200] if lines else ""
