"""The fields of the page: which words of a job they are, which a model has, and which one a refusal is about."""

import re
from dataclasses import fields as fields_of
from math import isfinite

from ..commands.job import Job
from ..errors import InputError
from ..errors import shown as shown_as

JOB = {field.name for field in fields_of(Job)}
FIELDS = {  # in the order of the API's arguments: the word of a job that each one gives
    "prompt": "prompts",
    "model": "model",
    "duration": "duration",
    "seed": "seed",
    "negative_prompt": "negative_prompt",
    "guidance_start": "guidance_scale",
    "guidance_end": "guidance_scale",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "candidates": "candidates",
    "int8": "quantization",
    "voice": "voice",
    "steps": "steps",
    "scheduler": "scheduler",
    "artist": "artist",
    "genre": "genre",
    "lyrics": "lyrics",
    "recording": "audio",
    "use": "melody",
}
FIELDS = {name: word for name, word in FIELDS.items() if word in JOB}
WHOLE = ("seed", "top_k", "steps", "candidates")
USES = ("continue", "melody")  # of a recording
NUMBERS = ("duration", "guidance_start", "guidance_end", "temperature", "top_p")
LONGEST_TEXT = 20_000  # characters; lyrics are some pages
ABOUT = (  # the first pattern that is in a refusal says which field it is beside
    ("recording", r"^audio\b|recording|audio prompt|--audio|melod|recipe|\.(wav|mp3|flac|ogg)'"),
    ("seed", r"^seed\b"),
    ("temperature", r"temperature"),
    ("top_k", r"top[_-]k"),
    ("top_p", r"top[_-]p"),
    ("guidance_start", r"guidance"),
    ("negative_prompt", r"negative"),
    ("candidates", r"candidates|scorer"),
    ("steps", r"steps"),
    ("scheduler", r"scheduler"),
    ("voice", r"voice"),
    ("lyrics", r"lyrics"),
    ("artist", r"artist"),
    ("genre", r"genre"),
    ("duration", r"duration|max[_-]new[_-]tokens|seconds|audio_length"),
    ("int8", r"quantiz|int8|8 bits"),
    ("model", r"model|checkpoint|config\.json|hub|folder"),
)


def about(sentence):
    """The field that an English sentence of refusal is about; what is about none is said beside the prompt."""
    return next((name for name, pattern in ABOUT if re.search(pattern, sentence)), "prompt")


def shown(family, folder, scorer=None):
    """The fields that a model has.

    Args:
        family (module): `command` of the model's family.
        folder (ModelFolder): of the model.
        scorer (str): what judges candidates, where the model has no judge of its own.

    Returns:
        set[str]
    """
    unused = family.unused(folder)
    names = {name for name, word in FIELDS.items() if word not in unused} - {"prompt"}
    if "audio" not in unused:
        names.add("recording")
    if not scorer and not hasattr(family, "open_judge"):
        names.discard("candidates")
    return (names if "lyrics" in names else names | {"prompt"}) | {"model"}  # who sings needs no prompt


def job_of(values, family=None, folder=None, **more):
    """The job that the fields' values come to.

    Args:
        values (dict): by the fields' names; None, or no entry, where nothing was said.
        family (module), folder (ModelFolder): of the model, whose other fields may hold what another has left there;
            None takes all.
        more: words of the job that no field has.

    Returns:
        Job

    Raises:
        InputError: for what is no number or text.
    """
    given = {name: value for name, value in values.items() if value not in (None, "")}
    if family is not None:
        had = shown(family, folder, more.get("scorer"))
        given = {name: value for name, value in given.items() if name in had}
    take, words = given.pop, dict(more)
    prompt, recording, use = take("prompt", ""), take("recording", None), take("use", USES[0])
    words["prompts"] = [prompt.strip()] if prompt.strip() else []
    if recording:
        words["melody" if use == "melody" else "audio"] = [recording]
    if take("int8", False):
        words["quantization"] = "int8"
    if "voice" in given:
        words["voice"] = [take("voice")]
    start, end = take("guidance_start", None), take("guidance_end", None)
    if end is not None and start is None:
        raise InputError("guidance has an end and no beginning; give both, or the beginning alone")
    if start is not None:
        words["guidance_scale"] = start if end in (None, start) else (start, end)
    return Job(**words, **{name: int(value) if name in WHOLE else value for name, value in given.items()})


def check(name, value):
    """Refuse what a field cannot hold; a program sends what it likes.

    Raises:
        InputError: naming the field.
    """
    numeric = isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)
    if name in NUMBERS and not numeric:
        raise InputError(f"{name} is {shown_as(value)}; expected a number")
    if name in WHOLE and not (numeric and value == int(value)):
        raise InputError(f"{name} is {shown_as(value)}; expected a whole number")
    if name == "int8" and not isinstance(value, bool):
        raise InputError(f"{name} is {shown_as(value)}; expected true or false")
    if name not in (*NUMBERS, *WHOLE, "int8") and not isinstance(value, str):
        raise InputError(f"{name} is {shown_as(value)}; expected a text")
    if name == "use" and value not in USES:
        raise InputError(f"the use of the recording is {shown_as(value)}; expected {' or '.join(USES)}")
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        raise InputError(f"{name} has {len(value)} characters; expected at most {LONGEST_TEXT}")


def values_of(recipe):
    """The fields' values that a recipe comes to; what it does not say is empty. Of a recording it holds only the name.

    Args:
        recipe (dict): from a piece.

    Returns:
        dict: by the fields' names, but for the model and what a recording is.
    """
    if recipe.get("quantization") not in (None, "none", "int8"):
        raise InputError(f"the piece was made with {shown_as(recipe['quantization'])}; the page offers int8 alone")
    named = {"prompt": recipe.get("prompt", ""), "int8": recipe.get("quantization") == "int8"}
    scale = recipe.get("guidance_scale")
    both = isinstance(scale, (list, tuple)) and len(scale) == 2
    named["guidance_start"], named["guidance_end"] = scale if both else (scale, None)
    voice = recipe.get("voice")
    named["voice"] = voice[0] if isinstance(voice, list) and voice else None
    same = ("duration", "seed", "negative_prompt", "temperature", "top_k", "top_p", "steps", "scheduler")
    named |= {name: recipe.get(name) for name in (*same, "artist", "genre", "lyrics")}
    if named["negative_prompt"] is None:
        named["negative_prompt"] = ""
    return {name: value for name, value in named.items() if name in FIELDS}
