"""The one exception for bad input: a sentence that names the input, what is wrong and what would be right."""

LONGEST = 300  # characters of a message
LONGEST_VALUE = 60  # of a value in it


class InputError(ValueError):
    """Something the user gave cannot be used. The CLI prints its text and exits with code 2."""

    def __init__(self, message=""):
        message = _printable(" ".join(str(message).split("\n")))
        if len(message) > LONGEST:  # what is right comes last, so the middle goes
            message = f"{message[: LONGEST - 121]} ... {message[-115:]}"
        super().__init__(message)

    def __str__(self):
        """The sentence in the user's language: see `language`."""
        from .language import said  # not above: MindSpore follows what this file imports (`compiled._entry`)

        return said(super().__str__())


def _printable(text):
    """A text whose characters a terminal shows and does not obey: names from files are part of sentences."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown(value):
    """A value as a message shows it: arrays by their shape, anything long cut."""
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape:  # a number of NumPy has the shape ()
        return f"an array of shape {shape}"
    if isinstance(value, (list, tuple, dict, set)) and len(value) > 8:
        return f"a {type(value).__name__} of {len(value)} entries"
    try:
        text = repr(value)
    except Exception:  # a __repr__ of the user's may raise anything
        text = f"a {type(value).__name__}"
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."


def clip(text, most=160):
    """Text from a file, made fit for one line of an error."""
    return str(text)[:most].encode("unicode_escape").decode()[:most]


def whole_number(name, value, least):
    """A whole number as an int.

    Args:
        name (str): what the user calls it.
        value (object): what was given; True and False are no numbers.
        least (int): the smallest that makes sense.

    Raises:
        InputError: for anything else.
    """
    from numbers import Integral

    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise InputError(f"{name} is {shown(value)}; expected a whole number of at least {least}")
    return int(value)
