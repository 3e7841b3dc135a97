"""Texts that a user gives: prompts, captions, comments."""

from .errors import InputError, shown


def check_words(name, value):
    """Refuse what is no prompt: no text, nothing but spaces, or text with half a character, which no tokenizer takes.

    Raises:
        InputError: in these cases.
    """
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{name} is {shown(value)}; expected some words that describe the music")
    if has_lone_surrogate(value):
        raise InputError(f"{name} holds half a character (a lone surrogate); write the text as UTF-8")


def has_lone_surrogate(text):
    """Whether a text holds what no UTF-8 does: from JSON's escapes, or bytes of another encoding on a command line."""
    return any("\ud800" <= character <= "\udfff" for character in text)
