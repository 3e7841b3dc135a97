"""Prompts for the demo model: the words it understands, examples, and new prompts made of these words."""

import json
import random

from ..checkpoint.source import DEMO
from ..errors import InputError, whole_number

LANGUAGES = ("en", "zh")


def demo_words():
    """What the demo model understands.

    Returns:
        dict: `examples` (list of prompts), `styles` (for each its names, bpm, tones, instruments and whether it has
        drums), `instruments`, `tones`, `moods` and `tempi` with their words in "en" and "zh".
    """
    return json.loads((DEMO / "prompts.json").read_text(encoding="utf-8"))


def invent(count=5, seed=None, language="en"):
    """New prompts made of the demo's words.

    Args:
        count (int): how many.
        seed (int): the same seed gives the same prompts; None draws new ones.
        language (str): en or zh.

    Returns:
        list[str]

    Raises:
        InputError: for another language or a count below 1.
    """
    if language not in LANGUAGES:
        raise InputError(f"language is {language!r}; expected one of {', '.join(LANGUAGES)}")
    whole_number("count", count, 1)
    words, rng = demo_words(), random.Random(seed)
    return [_one(words, rng, language) for _ in range(count)]


def _one(words, rng, language):
    style = rng.choice(list(words["styles"].values()))
    tone = rng.choice(list(style["tones"]))
    instruments = style["tones"][tone]
    named = rng.sample(instruments, min(len(instruments), rng.choice((1, 2))))
    parts = [rng.choice(words["instruments"][name][language]) for name in named]
    drums = style["drums"]
    bpm = rng.choice(style["bpm"])
    name, tone = rng.choice(style[language]), rng.choice(words["tones"][tone][language])
    if language == "zh":
        text = f"{tone}的{name}，{'、'.join([*parts, *(['鼓'] if drums else [])])}"
        return f"{text}{'' if drums else '，没有鼓'}，{bpm} bpm"
    text = f"{tone} {name} with {' and '.join(parts)}"
    return f"{text}{', drums' if drums else ', no drums'}, {bpm} bpm"


def describe(language="en"):
    """The words as a list of lines."""
    words = demo_words()
    titles = {
        "en": ("styles", "instruments", "sound", "mood", "tempo", "drums, a drum beat, no drums; major, minor; 3/4"),
        "zh": ("风格", "乐器", "音色", "情绪", "速度", "鼓，没有鼓；大调，小调"),
    }[language]
    comma, colon, semicolon = ("、", "：", "；") if language == "zh" else (", ", ": ", "; ")

    def joined(table):
        return comma.join(dict.fromkeys(word for row in table for word in row))

    tempi = joined(row[language] for row in words["tempi"]) + semicolon + comma.join(map(str, words["bpm"])) + " bpm"
    rows = [
        joined(style[language] for style in words["styles"].values()),
        *(joined(row[language] for row in words[name].values()) for name in ("instruments", "tones", "moods")),
        tempi,
    ]
    lines = [f"{title}{colon}{row}" for title, row in zip(titles, rows, strict=False)]
    return [*lines, titles[-1]]
