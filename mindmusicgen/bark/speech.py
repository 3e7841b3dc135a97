"""Texts of any length, and dialogues: cut into parts that Bark can speak, spoken in one voice, joined with gaps.

Bark speaks about 13 s at a time and reads 256 tokens. A part holds as many whole sentences as fit; a sentence that is
longer than a part is cut at a comma, else between words.
"""

import re

import numpy as np

from ..errors import InputError, shown

MOST_TOKENS = 200  # of a part: more, and Bark hurries or leaves words out
GAP, TURN = 0.25, 0.5  # seconds of silence between parts, and between speakers
LEAST_TOKENS = 25  # of a part that the next ones take their voice from: half a second
MIN_EOS_P = 0.05  # parts end where they should rather than go on with what nobody wrote
SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s|$)|[。！？]+[”’」』）]*|\n")
CLAUSE_END = re.compile(r"[,;:—]+(?=\s|$)|[，；：、]+")
SPEAKER = re.compile(r"\s*([^\s:：][^:：]{0,40}?)\s*[:：]\s*(.*)")


def parts_of(text, count, most):
    """A text cut into parts of at most `most` tokens, at the ends of sentences where it can be.

    Args:
        text (str): of any length.
        count (Callable): from a text to how many tokens it has.
        most (int): tokens of a part.

    Returns:
        list[str]: joined they are the text, but for spaces.
    """
    pieces = []
    for sentence in _cut(SENTENCE_END, text):
        if count(sentence) <= most:
            pieces.append(sentence)
            continue
        for clause in _cut(CLAUSE_END, sentence):
            pieces += [clause] if count(clause) <= most else _words(clause, count, most)
    return [" ".join(part.split()) for part in _packed(pieces, count, most) if re.search(r"\w|♪", part)]


def _cut(end, text):
    """A text cut behind whatever `end` finds; what is empty is left out."""
    places = [found.end() for found in end.finditer(text)] + [len(text)]
    pieces = (text[start:stop] for start, stop in zip([0, *places], places, strict=False))
    return [piece for piece in pieces if piece.strip()]


def _words(text, count, most):
    """A text without commas, cut between words, or between characters where there are no spaces."""
    return _packed(re.findall(r"\s*\S{1,40}", text), count, most)


def _packed(pieces, count, most):
    """Pieces one behind the other, as many as fit into each part."""
    parts = []
    for piece in pieces:
        joined = parts[-1] + piece if parts else piece
        if parts and count(joined) <= most:
            parts[-1] = joined
        else:
            parts.append(piece)
    return parts


def turns_of(text):
    """The turns of a dialogue whose lines are "Name: what they say".

    Returns:
        list of (name, text); lines without a name go on with the turn before.

    Raises:
        InputError: if it does not begin with a name.
    """
    turns = []
    for line in text.splitlines():
        found = SPEAKER.fullmatch(line)
        if found and found[2].strip():
            turns.append((found[1], found[2].strip()))
        elif line.strip() and turns:
            turns[-1] = (turns[-1][0], f"{turns[-1][1]} {line.strip()}")
        elif line.strip():
            raise InputError(f"the dialogue begins with {shown(line.strip())}; expected lines such as Ann: Hello!")
    if not turns:
        raise InputError("the dialogue is empty; expected lines such as Ann: Hello!")
    return turns


def plan(processor, text, voices, share=1.0):
    """What is to be spoken: (speaker, text, seconds of silence before it) of each part.

    Args:
        processor (BarkProcessor): whose tokens are counted.
        text (str): the text, or a dialogue if there are voices.
        voices (dict): names of the speakers, or None.
        share (float): how much of the tokens that Bark reads this model reads.

    Raises:
        InputError: if there is nothing to say, or a speaker has no voice.
    """
    if not isinstance(text, str) or not text.strip():
        raise InputError("the text is empty; give at least one word")

    def count(words):
        return len(processor.tokenizer(words, add_special_tokens=False, verbose=False)["input_ids"])

    turns = [(None, text)] if voices is None else turns_of(text)
    made, before = [], None
    for name, words in turns:
        if voices is not None and name not in voices:
            raise InputError(f"the dialogue has no voice for {shown(name)}; voices has {', '.join(map(str, voices))}")
        for number, part in enumerate(parts_of(words, count, max(1, round(share * MOST_TOKENS)))):
            gap = 0 if not made else TURN if number == 0 and name != before else GAP
            made.append((name, part, gap))
            before = name
    if not made:
        raise InputError("the text holds no word; give what is to be said")
    return made


def joined(pieces, gaps, rate):
    """Audio of parts one behind the other, with silence before each.

    Args:
        pieces (list[numpy.ndarray]): samples [n] of each.
        gaps (list[float]): seconds before each.
        rate (int): samples per second.

    Returns:
        numpy.ndarray: [samples] float32.
    """
    parts = []
    for piece, gap in zip(pieces, gaps, strict=True):
        parts += [np.zeros(round(gap * rate), np.float32), piece]
    return np.concatenate(parts)
