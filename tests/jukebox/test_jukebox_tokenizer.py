"""Artists, genres and lyrics as numbers: those of the original program, and what is said of those it does not know."""

import json

import numpy as np
import pytest

from mindmusicgen.jukebox.ascii import to_ascii
from mindmusicgen.jukebox.tokenizer import JukeboxTokenizer


@pytest.fixture(scope="module")
def tokenizer(both):
    return JukeboxTokenizer.from_pretrained(both["1b"].folder)


def test_rows_are_the_originals(golden):
    for level in range(3):
        slots = golden[f"labels_A_level{2 - level}"].shape[1] - (12 if level == 0 else 0)
        np.testing.assert_array_equal(
            golden.labels[level][:, 3:slots], golden[f"labels_A_level{2 - level}"][:, 3:slots]
        )
        assert not golden.labels[level][:, :3].any()


def test_characters_are_the_originals(golden):
    tokenizer = JukeboxTokenizer.from_pretrained(golden.folder)
    for i, meta in enumerate(golden.metas):
        np.testing.assert_array_equal(tokenizer.lyric_ids(meta["lyrics"]), golden[f"lyric_ids_{i}"])


def test_a_genre_of_two_words_is_both_words_in_v2(tokenizer):
    found = tokenizer("Mara Stone", "Deep Rock", "la la", return_tensors="np").input_ids
    assert [one.tolist() for one in found[1:]] == [[[0, 0, 0, 2, 3, 2, -1, -1, -1]]] * 2
    assert found[0].tolist() == [[0, 0, 0, 1, 2, 38, 27, 76, 38, 27]]


def test_tensors_by_default(tokenizer):
    out = tokenizer(artist="ella vale", genres="folk", lyrics="a")
    assert [one.asnumpy().shape for one in out["input_ids"]] == [(1, 6), (1, 9), (1, 9)] and out.attention_masks == []


def test_songs_of_different_lyrics_share_an_array(tokenizer):
    rows = tokenizer(["ella vale", "mara stone"], "folk", ["abc", "a"], return_tensors="np").input_ids[0]
    assert rows[:, 5:].tolist() == [[27, 28, 29], [27, -1, -1]]


@pytest.mark.parametrize(
    "text, plain",
    [
        ("café – naïve…", "cafe - naive..."),
        ("‘it’s’ “so”", "'it's' \"so\""),
        ("Straße, Łódź, Ærø", "Strasse, Lodz, AEro"),
        ("Жизнь и любовь", "Zhizn' i liubov'"),
        ("ψυχή", "psukhe"),
        ("ﬁne\u00a0½", "fine 1/2"),
        ("日本", ""),
    ],
)
def test_text_becomes_ascii(text, plain):
    assert to_ascii(text) == plain


def test_a_plus_is_read_by_v2_alone(both):
    for variant, expected in (("1b", "a  b"), ("5b", "a + b")):
        assert JukeboxTokenizer.from_pretrained(both[variant].folder).clean_lyrics("a + b") == expected


def test_unknown_names_are_told_with_near_ones(tokenizer, capsys):
    tokenizer("Mara Stome", "Night Jaz", "la", return_tensors="np")
    said = capsys.readouterr().err
    assert "artist 'mara stome' is not among the 6 of this model and counts as unknown; near: mara stone" in said
    assert "genre 'night jaz' is not among the 5 of this model" in said and "near: night jazz" in said
    assert "artist 'mara_stome' is not among the 9 of this model's upsamplers" in said


def test_more_words_than_slots_are_told(tokenizer, capsys):
    rows = tokenizer("Mara Stone", "deep rock jazz night choir folk", "la", return_tensors="np").input_ids[1]
    assert rows[0, 4:].tolist() == [3, 2, 4, 5, 6] and "more words than the 5" in capsys.readouterr().err


def test_lyrics_that_are_lost_are_refused(tokenizer, refused):
    refused(lambda: tokenizer("mara stone", "folk", "日本語の歌"), "would lose 5", "Latin letters")


def test_bad_arguments(tokenizer, refused, tmp_path):
    refused(lambda: tokenizer(["a", "b"], "folk", ["x", "y", "z"]), "2 of artist for 3 songs")
    refused(lambda: tokenizer("a", "folk", return_tensors="pt"), "return_tensors is 'pt'", "ms or np")
    refused(lambda: tokenizer("a\ud800", "folk"), "artist holds")
    files = [str(tmp_path / name) for name in ("artists.json", "genres.json", "lyrics.json")]
    for path in files:
        (tmp_path / path).write_text(json.dumps({"unknown": "zero"}))
    refused(lambda: JukeboxTokenizer(*files), "no list of names")
    refused(lambda: JukeboxTokenizer(*files, version=["v4"]), "v2 or v3")


def test_saved_lists_are_read_again(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = JukeboxTokenizer.from_pretrained(str(tmp_path))
    assert again.get_vocab() == tokenizer.get_vocab() and again.version == tokenizer.version
    assert len(tokenizer.save_vocabulary(tmp_path, "x")) == 3 and (tmp_path / "x-artists.json").exists()


def test_search(tokenizer):
    assert tokenizer.search("STONE") == ["mara stone"] and tokenizer.search("jazz", "genres") == ["night jazz"]
