"""From text and voices to model inputs: tokens, presets of every kind, folders, and a sentence for the rest."""

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from mindspore import Tensor

from mindmusicgen.bark import presets
from mindmusicgen.bark.processing import BarkProcessor, open_tokenizer


def test_tokens_are_those_of_suno(processor, golden):
    for number, text in enumerate(golden.texts[:2]):
        inputs = processor(text, return_tensors="np")
        count = inputs["attention_mask"].sum()
        assert inputs["input_ids"].shape == inputs["attention_mask"].shape == (1, 256)
        np.testing.assert_array_equal(inputs["input_ids"][0, :count], golden[f"p{number}_text_ids"])
        assert not inputs["input_ids"][0, count:].any() and "history_prompt" not in inputs


def test_a_long_text_is_cut_and_says_what_is_lost(processor, golden):
    with pytest.warns(UserWarning, match="765 tokens and Bark reads 256.*long song"):
        inputs = processor(["the rain", golden.texts[2]])
    assert inputs["input_ids"].shape == (2, 256)
    np.testing.assert_array_equal(inputs["input_ids"].asnumpy()[1], golden["p2_text_ids"])


def test_what_a_call_may_ask_for(processor):
    assert list(processor("rain", return_attention_mask=False)) == ["input_ids"]
    assert processor("rain", return_token_type_ids=True)["token_type_ids"].shape == (1, 256)
    assert processor("rain", max_length=4)["input_ids"].shape == (1, 4)
    plain, special = (
        processor("rain", return_tensors="np", add_special_tokens=s)["attention_mask"].sum() for s in (False, True)
    )
    assert special == plain + 2
    words = processor([["the", "rain"], ["song"]], is_split_into_words=True, return_tensors="np")
    np.testing.assert_array_equal(words["input_ids"], processor(["the rain", "song"], return_tensors="np")["input_ids"])
    ids = processor("the rain")["input_ids"]
    assert processor.batch_decode(ids, skip_special_tokens=True) == ["the rain"]
    assert processor.decode(ids[0], skip_special_tokens=True) == "the rain"


def test_a_voice_is_a_file_a_dict_or_one_for_each_text(processor, golden):
    voice = golden.voice("short")
    for given in (golden.preset("short"), golden.preset("short") + ".npz", voice, dict(voice)):
        found = processor("rain", voice_preset=given)["history_prompt"]
        assert isinstance(found["fine_prompt"], Tensor)
        np.testing.assert_array_equal(found["fine_prompt"].asnumpy(), voice["fine_prompt"])
    several = processor(["a", "b"], voice_preset=[None, voice], return_tensors="np")["history_prompt"]
    assert several[0] is None and several[1]["coarse_prompt"].dtype == np.int32


@pytest.fixture
def voiced(golden, tmp_path):
    """A folder with two voices, as the hub has them."""
    folder = tmp_path / "voiced"
    shutil.copytree(golden.folder, folder)
    listed = {"repo_or_path": "somebody/bark"}
    for name, preset in (("v2/en_speaker_6", "long"), ("announcer", "short")):
        listed[name] = {}
        for key, values in golden.voice(preset).items():
            place = f"speaker_embeddings/{name}_{key}.npy"
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            np.save(folder / place, values)
            listed[name][key] = place
    (folder / "speaker_embeddings_path.json").write_text(json.dumps(listed))
    return folder


def test_voices_by_name(voiced, golden, tmp_path, refused):
    opened = BarkProcessor.from_pretrained(str(voiced))
    assert opened.available_voice_presets == ["v2/en_speaker_6", "announcer"]
    found = opened("rain", voice_preset="v2/en_speaker_6", return_tensors="np")["history_prompt"]
    np.testing.assert_array_equal(found["semantic_prompt"], golden.voice("long")["semantic_prompt"])
    refused(lambda: opened("rain", voice_preset="v2/en_speaker_7"), "'v2/en_speaker_7'", "has 2", "did you mean")
    saved = tmp_path / "saved"
    opened.save_pretrained(str(saved))
    moved = saved.rename(tmp_path / "moved")
    again = BarkProcessor.from_pretrained(str(moved))
    found = again("rain", voice_preset="announcer", return_tensors="np")
    np.testing.assert_array_equal(found["history_prompt"]["fine_prompt"], golden.voice("short")["fine_prompt"])
    np.testing.assert_array_equal(found["input_ids"], opened("rain", return_tensors="np")["input_ids"])
    alone = BarkProcessor.from_pretrained(str(voiced), speaker_embeddings_dict_path=None)
    assert alone.available_voice_presets == []
    refused(lambda: alone("rain", voice_preset="announcer"), "none by name")


def test_a_voice_of_the_hub_is_fetched_when_it_is_asked_for(voiced, golden, monkeypatch, tmp_path, refused):
    import huggingface_hub

    from mindmusicgen import AutoProcessor, auto
    from mindmusicgen.bark import processing
    from mindmusicgen.checkpoint.source import ModelFolder

    asked, small = [], tmp_path / "small"
    shutil.copytree(voiced, small, ignore=shutil.ignore_patterns("speaker_embeddings"))
    for module in (processing, auto):  # as the real one: what is resolved already stays
        monkeypatch.setattr(
            module,
            "resolve",
            lambda name, *_, **__: name if hasattr(name, "hub") else ModelFolder(small, {"repo_id": name}),
        )

    def fetch(filename, repo_id, **_):
        asked.append(filename)
        if "announcer" in filename:
            raise OSError("no network")
        return str(voiced / filename)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    for kind in (BarkProcessor, AutoProcessor):
        opened = kind.from_pretrained("somebody/bark")
        assert not asked
        opened("rain", voice_preset="v2/en_speaker_6")
        assert len(asked) == 3 and all("v2/en_speaker_6" in name for name in asked)
        asked.clear()
    refused(lambda: opened("rain", voice_preset="announcer"), "cannot be fetched")


def test_a_generation_is_a_voice(bark, processor, tmp_path, refused):
    first = bark.generate(**processor("the rain"), max_new_tokens=40, return_dict_in_generate=True)
    path = first.save_voice(str(tmp_path / "mine"))
    again = presets.open_preset(path)
    np.testing.assert_array_equal(again["fine_prompt"], first.audio_codes[0])
    with np.load(path) as file:  # as suno's program and transformers open it
        assert {name: file[name].ndim for name in file.files} == presets.KEYS and file["coarse_prompt"].shape[0] == 2
    follow = {"max_new_tokens": 20, "return_dict_in_generate": True}
    of_file = bark.generate(**processor("a song", voice_preset=path), **follow)
    of_arrays = bark.generate(**processor("a song"), history_prompt=first.preset(), **follow)
    np.testing.assert_array_equal(of_file.audio_codes[0], of_arrays.audio_codes[0])
    refused(lambda: presets.save_preset(str(tmp_path / "no" / "where"), first.preset()), "cannot be written")


@pytest.mark.parametrize("tokens", [2, 3, 4, 5, 7])
def test_a_short_generation_is_a_voice_too(bark, processor, refused, tokens):
    """Half a frame that rounding leaves out is more than a tenth of so few."""
    piece = bark.generate(**processor("the rain"), max_new_tokens=tokens, return_dict_in_generate=True)
    voice = piece.preset()
    bark.generate(**processor("a song"), history_prompt=voice, max_new_tokens=2)
    longer = {**voice, "semantic_prompt": np.repeat(voice["semantic_prompt"], 2)}
    refused(lambda: bark.generate(**processor("a song"), history_prompt=longer), "of different recordings")


def test_a_vocabulary_alone_is_enough(golden, tmp_path, processor, refused):
    words = json.loads(Path(golden.folder, "tokenizer.json").read_text(encoding="utf-8"))
    (tmp_path / "vocab.txt").write_text("\n".join(words["model"]["vocab"]), encoding="utf-8")
    made = open_tokenizer(str(tmp_path))
    for text in golden.texts[:2]:
        assert (
            made(text, add_special_tokens=False)["input_ids"]
            == processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        )
    (tmp_path / "vocab.txt").write_text("a\nb")
    refused(lambda: open_tokenizer(str(tmp_path)), "cannot be used")
    (tmp_path / "tokenizer.json").write_text("{")
    refused(lambda: open_tokenizer(str(tmp_path)), "cannot be used")
    refused(lambda: open_tokenizer(str(tmp_path / "nowhere")), "tokenizer.json or vocab.txt")


@pytest.mark.parametrize(
    ("given", "named", "words"),
    [
        ("", {}, ("the text is empty",)),
        (["rain", "  "], {}, ("the text is empty",)),
        (None, {}, ("needs a text",)),
        ([], {}, ("list of texts",)),
        (7, {}, ("expected a text",)),
        (["a", ["b"]], {}, ("is_split_into_words",)),
        ("a \ud800", {}, ("surrogate",)),
        ([["a"], "b"], {"is_split_into_words": True}, ("list of words",)),
        ("rain", {"return_tensors": "pt"}, ("'pt'", '"np"')),
        ("rain", {"max_length": 0}, ("max_length",)),
        ("rain", {"truncation": False}, ("truncation",)),
        ("rain", {"voice_presets": "x"}, ("'voice_presets'", "did you mean voice_preset")),
        ("rain", {"voice_preset": "nobody"}, ("'nobody'", ".npz")),
        ("rain", {"voice_preset": "nobody.npz"}, ("nobody.npz", "no file")),
        ("rain", {"voice_preset": 6}, ("voice_preset is 6",)),
        (["a", "b"], {"voice_preset": [None]}, ("1 entries for 2 texts",)),
    ],
)
def test_what_a_call_refuses(processor, refused, given, named, words):
    refused(lambda: processor(given, **named), *words)


def changed(voice, **arrays):
    return {name: values for name, values in (voice | arrays).items() if values is not None}


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"fine_prompt": None}, ("lacks fine_prompt",)),
        ({"semantic_prompt": np.zeros((1, 31), int)}, ("semantic_prompt", "(1, 31)")),
        ({"coarse_prompt": np.zeros((3, 46), int)}, ("coarse_prompt has 3 rows",)),
        ({"coarse_prompt": np.zeros((2, 0), int)}, ("coarse_prompt", "(2, 0)")),
        ({"coarse_prompt": np.zeros((2, 45), int)}, ("45 frames", "46")),
        ({"semantic_prompt": np.zeros(31)}, ("semantic_prompt", "whole numbers")),
        ({"fine_prompt": np.full((8, 46), -1)}, ("fine_prompt", "-1")),
        ({"fine_prompt": np.full((7, 46), 1)}, ("fine_prompt has 7 rows", "8")),
        ({"fine_prompt": np.full((8, 46), 64)}, ("fine_prompt holds 64", "63")),
        ({"semantic_prompt": np.full(31, 100)}, ("semantic_prompt holds 100", "99")),
        ({"semantic_prompt": np.full(60, 1)}, ("0.77 frames", "1.5")),
    ],
)
def test_presets_that_are_none(bark, processor, golden, refused, arrays, words):
    inputs = processor("rain")
    refused(lambda: bark.generate(**inputs, history_prompt=changed(golden.voice("short"), **arrays)), *words)


def test_files_that_are_no_presets(golden, tmp_path, refused, monkeypatch):
    evil, short = tmp_path / "evil.npz", tmp_path / "short.npz"
    np.savez(evil, **changed(golden.voice("short"), fine_prompt=np.array([print, None], object)))
    refused(lambda: presets.open_preset(str(evil)), "cannot be read")
    short.write_bytes((tmp_path / "evil.npz").read_bytes()[:100])
    refused(lambda: presets.open_preset(str(short)), "cannot be read")
    np.save(tmp_path / "array.npz.npy", np.zeros(3))
    (tmp_path / "array.npz.npy").rename(tmp_path / "array.npz")
    refused(lambda: presets.open_preset(str(tmp_path / "array")), "expected a dict")
    monkeypatch.setattr(presets, "MAX_BYTES", 10)
    refused(lambda: presets.open_preset(golden.preset("short")), "larger than 10 bytes")


@pytest.mark.parametrize(
    "entry",
    [
        {"x": {"semantic_prompt": "a.npy"}},
        {"x": dict.fromkeys(presets.KEYS, "../a.npy")},
        {"x": dict.fromkeys(presets.KEYS, "/a.npy")},
        {"../x": dict.fromkeys(presets.KEYS, "a.npy")},
        {"x": 3},
    ],
)
def test_lists_of_voices_stay_in_their_folder(voiced, refused, entry):
    (voiced / "speaker_embeddings_path.json").write_text(json.dumps(entry))
    refused(lambda: BarkProcessor.from_pretrained(str(voiced)), "voice", "fetch it again")


def test_no_warning_for_what_fits(processor):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        processor("the rain")
