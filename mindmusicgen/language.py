"""The language that errors are said in: English, or Chinese where MINDMUSICGEN_LANG or the computer's locale says so.

`sentences_zh.json` has the English sentences with gaps, `{}`, and beside each the Chinese one, whose gaps have numbers.
What fills a gap may be a sentence of the table itself. What is not in it stays English.
"""

import contextlib
import contextvars
import functools
import json
import locale
import os
import re
from pathlib import Path

SENTENCES = Path(__file__).parent / "sentences_zh.json"
SETTINGS = ("MINDMUSICGEN_LANG", "LC_ALL", "LC_MESSAGES", "LANG")  # the first that says something counts


_asked = contextvars.ContextVar("language", default=None)


@contextlib.contextmanager
def speaking(name):
    """Context in which this thread speaks a language, whatever the computer's is: that of a visitor. None changes
    nothing."""
    before = _asked.set(name and of(name))
    try:
        yield
    finally:
        _asked.reset(before)


def asked():
    """The language that `speaking` asks for, or None."""
    return _asked.get()


def current():
    """The language: "en" or "zh"."""
    return asked() or of(next(filter(None, map(os.environ.get, SETTINGS)), None) or locale.getlocale()[0])


def of(name):
    """The language that a name means, such as zh_CN.UTF-8: "zh" for Chinese, else "en"."""
    return "zh" if str(name or "").lower().startswith(("zh", "cn", "chinese")) else "en"


def said(sentence):
    """An English sentence in the current language, where it is known."""
    if current() == "zh":
        for pattern, translated in _table():
            found = pattern.fullmatch(sentence)
            if found:
                values = [said(value) for value in found.groups()]
                return re.sub(r"\{(\d)\}", lambda gap, values=values: values[int(gap[1])], translated)
    return sentence


@functools.cache
def _table():
    """Pairs of a pattern and its translation, in the order in which they are tried: first those with a sentence of the
    table behind their colon, then those with the most words of their own."""
    try:
        table = json.loads(SENTENCES.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # an error must be said even then
        return []
    order = sorted(table, key=lambda english: (not english.endswith(": {}"), -len(english.replace("{}", ""))))
    return [(re.compile("(.*?)".join(map(re.escape, one.split("{}"))), re.DOTALL), table[one]) for one in order]
