"""Texts of any length and dialogues: how they are cut, and that parts are spoken in one voice and joined."""

import numpy as np
import pytest

from mindmusicgen.bark import speech


def count(text):
    """Words, or characters where there are no spaces."""
    return len(text.split()) if " " in text.strip() else len(text.strip()) // 2


@pytest.mark.parametrize(
    ("text", "most", "parts"),
    [
        ("Hello there. How are you? Fine!", 5, ["Hello there. How are you?", "Fine!"]),
        ("Hello there. How are you? Fine!", 6, ["Hello there. How are you? Fine!"]),
        ('"Yes," he said. "No." End', 3, ['"Yes," he said.', '"No." End']),
        ("It costs 3.50 dollars at example.com today.", 4, ["It costs 3.50 dollars", "at example.com today."]),
        ("你好。今天天气很好！我们去公园吧？", 5, ["你好。今天天气很好！", "我们去公园吧？"]),
        ("one, two, three four, five", 3, ["one, two,", "three four, five"]),
        ("no end\nnew line", 2, ["no end", "new line"]),
        ("♪ la la ♪ ... [laughs]", 9, ["♪ la la ♪ ... [laughs]"]),
        ("x" * 100, 20, ["x" * 40, "x" * 40, "x" * 20]),
        ("... !!!", 5, []),
    ],
)
def test_parts(text, most, parts):
    assert speech.parts_of(text, count, most) == parts


def test_nothing_is_lost():
    words = " ".join(f"w{i}{',' if i % 7 == 0 else '.' if i % 31 == 0 else ''}" for i in range(1, 400))
    for most in (3, 10, 50):
        parts = speech.parts_of(words, count, most)
        assert " ".join(parts) == words and max(map(count, parts)) <= most


def test_turns(refused):
    text = "Ann: Hello!\nBob： 你好\n and more\n\nAnn: [laughs] at 3:40"
    assert speech.turns_of(text) == [("Ann", "Hello!"), ("Bob", "你好 and more"), ("Ann", "[laughs] at 3:40")]
    refused(lambda: speech.turns_of("Hello!\nAnn: Hi"), "begins with", "Ann: Hello!")
    refused(lambda: speech.turns_of(" \n"), "empty")


def test_silences(processor, monkeypatch):
    monkeypatch.setattr(speech, "MOST_TOKENS", 4)
    text = "A: the rain. the song. a song\nB: the sea\nB: the rain"
    gaps = [gap for *_, gap in speech.plan(processor, text, {"A": None, "B": None})]
    assert gaps[0] == 0 and gaps[-2:] == [0.5, 0.25] and set(gaps[1:-2]) == {0.25}
    made = speech.joined([np.ones(3, np.float32), np.ones(2, np.float32)], [0, 0.5], 10)
    assert made.tolist() == [1, 1, 1, 0, 0, 0, 0, 0, 1, 1]


def test_a_long_text_is_spoken_in_one_voice(bark, processor, golden, monkeypatch):
    heard, generate = [], bark.generate

    def listening(*arguments, **named):
        heard.append((named["history_prompt"], generate(*arguments, **named)))
        return heard[-1][1]

    monkeypatch.setattr(bark, "generate", listening)
    monkeypatch.setattr(speech, "MOST_TOKENS", 4)
    limits = {"max_new_tokens": 30, "min_eos_p": None}
    audio = bark.speak(processor, "the rain. the song. the sea.", seed=1, **limits).asnumpy()
    voices, made = zip(*heard, strict=True)
    assert len(made) == 3 and audio.shape == (1, sum(one.lengths[0] for one in made) + 2 * 150)
    assert voices[0] is None and voices[1] is voices[2]
    np.testing.assert_array_equal(voices[1]["fine_prompt"], made[0].audio_codes[0])
    heard.clear()
    bark.speak(processor, "the rain. the song. the sea.", golden.preset("short"), follow=True, **limits)
    assert len({voice["semantic_prompt"].tobytes() for voice, _ in heard}) == 3
    heard.clear()
    bark.speak(
        processor, "A: the rain\nB: the sea\nA: a song", voices={"A": golden.voice("short"), "B": None}, **limits
    )
    assert [voice is None for voice, _ in heard] == [False, True, False]


def test_a_stop_ends_the_whole_text(bark, processor, monkeypatch):
    monkeypatch.setattr(speech, "MOST_TOKENS", 4)
    audio = bark.speak(processor, "the rain. the song.", max_new_tokens=30, callback=lambda done, total: False)
    assert audio.shape == (1, 0)


def test_what_speak_refuses(bark, processor, refused):
    refused(lambda: bark.speak(processor, " "), "the text is empty")
    refused(lambda: bark.speak(processor, "... !"), "no word")
    refused(lambda: bark.speak(processor, "C: hi", voices={"A": None}), "'C'", "voices has A")
    refused(lambda: bark.speak(processor, "hi", "nobody"), "'nobody'")
    refused(lambda: bark.speak(processor, "hi", seed=-1), "seed")
