"""A file of prompts: one JSON object a line, checked before anything is generated.

{"prompt": "calm piano"}
{"prompt": "80s pop", "id": "pop", "seed": 7, "duration": 20, "negative": "vocals", "guidance_scale": [4, 2]}
{"prompt": "Hello [laughs]", "voice": "v2/en_speaker_6"}
{"artist": "Alan Jackson", "genre": "Country", "lyrics": "old town road", "duration": 20}
"""

import json
import os
import re
from dataclasses import dataclass

from ..errors import InputError
from ..words import check_words

SETTINGS = ("duration", "extend_stride", "guidance_scale", "temperature", "top_k", "top_p", "do_sample", "voice")
SETTINGS += ("steps", "scheduler")  # of diffusion
SONG = ("artist", "genre", "lyrics")  # of a song, which has no text beside
SETTINGS += (*SONG, "total_length", "offset")
FIELDS = ("text", "id", "seed", "negative_text", *SETTINGS)
SAME = {"prompt": "text", "negative": "negative_text", "negative_prompt": "negative_text"}  # other names of fields
LONGEST_ID = 100  # characters, and twice as many bytes: with its ending it is to fit into 255 bytes
NO_NAME = re.compile(r'^[.\s]|[/\\:*?"<>|\x00-\x1f\x7f]|[.\s]$')


@dataclass(frozen=True)
class Prompt:
    """One line.

    Attributes:
        line (int): its number in the file, from 1.
        id (str): the name of its file.
        text (str): what the music should be.
        negative_text (str): what it should not be, or None.
        seed (int): of its random numbers.
        settings (dict): arguments of `generate`, the line's own over those of the command; see SETTINGS.
    """

    line: int
    id: str
    text: str
    negative_text: str | None
    seed: int
    settings: dict

    @property
    def song(self):
        """Whether this is a song's: who sings what, in place of a text."""
        return any(name in self.settings for name in SONG)


def read_prompts(path, defaults, seed=0):
    """The prompts of a file.

    Args:
        path (str): a .jsonl file, UTF-8. Empty lines are passed over, but keep their number.
        defaults (dict): settings for lines that do not have their own; None means not given.
        seed (int): line n uses seed + n - 1, unless it has its own.

    Returns:
        list[Prompt]: without an id of its own a line is called by its number, 00001.

    Raises:
        InputError: naming the file, the line and what is wrong with it.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = file.read().split("\n")
    except OSError as error:
        raise InputError(f"the prompts {path!r} cannot be read: {error.strerror}; expected a .jsonl file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"the prompts {path!r} are not UTF-8 text; save the file as UTF-8") from error
    prompts, taken = [], {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            prompt = _prompt(number, _fields(line), defaults, seed)
            if prompt.id in taken:
                raise InputError(f"the id {prompt.id!r} is taken by line {taken[prompt.id]}; give each its own")
        except InputError as error:
            raise at_line(path, number, error) from error
        taken[prompt.id] = number
        prompts.append(prompt)
    if not prompts:
        raise InputError(f'the prompts {path!r} hold no line; expected lines such as {{"text": "calm piano"}}')
    return prompts


def at_line(path, number, error):
    """An InputError that says where `error` is."""
    return InputError(f"{os.fspath(path)}, line {number}: {error}")


def _fields(line):
    """The object of a line."""
    try:
        fields = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(
            f'not JSON ({error.msg} at character {error.pos + 1}); expected such as {{"text": "calm piano"}}'
        ) from error
    except (RecursionError, ValueError) as error:  # brackets without end, a number of thousands of digits
        raise InputError('not a JSON object that can be read; expected such as {"text": "calm piano"}') from error
    if not isinstance(fields, dict):
        raise InputError(f'a JSON {_kind(fields)}; expected an object such as {{"text": "calm piano"}}')
    return fields


def _kind(value):
    names = {str: "string", list: "list", bool: "truth value", int: "number", float: "number"}
    return names.get(type(value), "null")


def _prompt(number, fields, defaults, seed):
    """A line's `Prompt`. Settings are checked later, against the model."""
    for name in [name for name in fields if name in SAME]:
        if SAME[name] in fields:
            raise InputError(f"{name} and {SAME[name]} are two names of one thing; give one of them")
        fields[SAME[name]] = fields.pop(name)
    unknown = sorted(set(fields) - set(FIELDS))
    if unknown:
        raise InputError(f"unknown field {unknown[0]!r}; expected {', '.join(FIELDS)}")
    song = any(fields.get(name) is not None for name in SONG)
    if "text" not in fields and not song:
        raise InputError("text is missing; say what the music should be")
    if fields.get("text") is not None and song:
        raise InputError("text and artist, genre or lyrics are of different models; give the one or the others")
    own = {name: value for name, value in fields.items() if value is not None}
    settings = {name: own.get(name, defaults.get(name)) for name in SETTINGS}
    if "do_sample" in own and not isinstance(own["do_sample"], bool):
        raise InputError(f"do_sample is {own['do_sample']!r}; expected true or false")
    negative = own.get("negative_text", defaults.get("negative_text"))
    return Prompt(
        line=number,
        id=_id(own.get("id", f"{number:05d}")),
        text="" if song else _words("text", fields["text"]),
        negative_text=None if negative is None else _words("negative_text", negative),
        seed=own.get("seed", seed + number - 1),
        settings={name: value for name, value in settings.items() if value is not None},
    )


def _words(name, value):
    check_words(name, value)
    return value


def _id(value):
    """An id, which is to be the name of a file."""
    value = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(value, str) or not value or NO_NAME.search(value):
        raise InputError(f"id is {value!r}; expected a name for a file, such as 'pop-1'")
    if len(value) > LONGEST_ID or len(_words("id", value).encode()) > 2 * LONGEST_ID:
        raise InputError(f"id {value[:20] + '...'!r} is too long; expected at most {LONGEST_ID} characters")
    return value
