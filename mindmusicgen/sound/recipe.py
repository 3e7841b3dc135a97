"""How a piece was made, kept in its file as a comment; and how a run of hours was begun, kept in its folder."""

import hashlib
import json
import os
import re

from ..checkpoint.json_file import read_json

RUN = "run.json"  # in the folder of a run: what decides its codes, whether it has ended, and its recipe
LONGEST_TEXT = 600  # bytes of a text in a recipe
LONGEST_COMMENT = 2000  # bytes: libsndfile silently leaves out a .wav file's comment of 2,048 or more
SHORTENED = re.compile(r"\.\.\. \(\d+ characters, SHA-256 [0-9a-f]{64}\)$")


def recipe_comment(recipe):
    """A recipe as the comment of an audio file: JSON, whose texts are shortened until every format keeps it.

    Args:
        recipe (dict): of what JSON can write.

    Returns:
        str: at most LONGEST_COMMENT bytes, always the same for the same recipe.
    """
    longest = LONGEST_TEXT
    while True:
        made = json.dumps({name: _fitted(value, longest) for name, value in recipe.items()}, ensure_ascii=False)
        if len(made.encode()) <= LONGEST_COMMENT or not longest:
            return made
        longest //= 2


def _fitted(value, longest):
    if isinstance(value, (list, tuple)):
        return [_fitted(one, longest) for one in value]
    return _shortened(value, longest) if isinstance(value, str) else value


def _shortened(text, longest):
    """A text whole, or its beginning with what it takes to recognise the rest."""
    text = text.encode("utf-8", "replace").decode()  # a file's name may be no text
    if len(json.dumps(text, ensure_ascii=False).encode()) - 2 <= longest:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{text[: longest // 4]}... ({len(text)} characters, SHA-256 {digest})"


def recipe_of(comment):
    """The recipe in a file's comment; an empty one if the comment is something else.

    Args:
        comment (str): from `read_comment`.

    Returns:
        dict
    """
    try:
        recipe = json.loads(comment)
    except (ValueError, RecursionError):
        return {}
    return recipe if isinstance(recipe, dict) else {}


def run_of(folder):
    """What run.json of a folder says, a dict; None without one.

    Raises:
        InputError: if it is damaged.
    """
    path = os.path.join(folder, RUN)
    return read_json(path) if os.path.exists(path) else None


def bare_name(value):
    """A file's or folder's name without where it lies, for a piece may be shared; other texts as they are."""
    return os.path.basename(os.path.abspath(value)) if os.path.exists(value) else value


def is_shortened(text):
    """Whether a recipe holds only the beginning of a text."""
    return bool(SHORTENED.search(text))
