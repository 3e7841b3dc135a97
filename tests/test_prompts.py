"""The prompt helper of the demo model."""

import pytest

from mindmusicgen.cli import main
from mindmusicgen.errors import InputError
from mindmusicgen.musicgen.prompts import demo_words, describe, invent


def test_invented_prompts_are_made_of_known_words():
    words = demo_words()
    names = [name for style in words["styles"].values() for name in style["en"]]
    for text in invent(40, seed=3):
        assert any(name in text for name in names), text
        assert ("no drums" in text) != (", drums" in text) and text.endswith(" bpm")
    assert invent(3, seed=3) == invent(3, seed=3) != invent(3, seed=4)
    assert all(max(text) > "\u2e80" for text in invent(5, seed=1, language="zh"))


def test_the_words_are_listed():
    for language, known in (("en", "chiptune"), ("zh", "圆舞曲")):
        assert any(known in line for line in describe(language))


@pytest.mark.parametrize("arguments", [{"count": 0}, {"count": True}, {"count": 2.0}, {"language": "fr"}])
def test_what_cannot_be_is_said(arguments):
    with pytest.raises(InputError, match=next(iter(arguments))):
        invent(**arguments)


def test_the_command_prints_examples(capsys, monkeypatch):
    assert main(["prompts", "--count", "2", "--seed", "5"]) == 0
    printed = capsys.readouterr().out
    assert invent(2, 5)[1] in printed and demo_words()["examples"][0] in printed
    assert main(["prompts", "--language", "zh"]) == 0
    assert "圆舞曲、" in capsys.readouterr().out
    monkeypatch.setenv("MINDMUSICGEN_LANG", "zh")
    assert main(["prompts"]) == 0
    assert "圆舞曲、" in capsys.readouterr().out
    assert main(["prompts", "--language", "fr"]) == 2
