"""The tiny Jukebox of the package: transformers' numbers from the same files, and songs that follow their words."""

import fnmatch
import runpy
from pathlib import Path

import numpy as np
import pytest
from mindspore import Tensor

from mindmusicgen import JukeboxModel
from mindmusicgen.checkpoint.source import PACKAGE, SHIPPED, resolve

ROOT = Path(__file__).resolve().parents[2]
SLOT = 8192  # samples of a note
SYLLABLES, PARTS = ["do", "re", "mi", "fa", "so", "la", "ti"], np.array([24, 27, 30, 32, 36, 40, 45])
WORDS = (
    "do do so so la la so -- fa fa mi mi re re do --",
    "ti la so fa mi re do -- do mi so mi do mi so --",
    "LA FA RE TI SO MI DO RE\nti do re mi fa so la ti",
    "re oh re oh mi oh mi oh re oh re oh mi oh mi oh",
)


@pytest.fixture(scope="module")
def solfa():
    model = JukeboxModel.from_pretrained("solfa")
    model.priors.eager = frozenset({1, 2})
    return model


@pytest.fixture(scope="module")
def gold():
    """What `scripts/jukebox_solfa/make.py` wrote down."""
    with np.load(ROOT / "tests" / "golden" / "solfa.npz") as file:
        return dict(file)


def heard(sound, rate=22050):
    """(syllable, whether it is an octave lower) of each note, by its strongest frequency; "--" for a rest."""
    found = []
    for part in sound.reshape(-1, SLOT):
        strongest = np.abs(np.fft.rfft(part * np.hanning(SLOT), 4 * SLOT)).argmax() * rate / (4 * SLOT)
        octaves = np.log2(max(strongest, 1) / (PARTS * rate / 2048))
        near = np.abs(octaves - np.round(octaves)).argmin()
        silent = part.std() < 0.02
        found.append(("--", None) if silent else (SYLLABLES[near], octaves[near] < -0.5))
    return found


@pytest.mark.parametrize("level", range(3))
def test_logits_and_sound_are_transformers(solfa, gold, close, level):
    prior, harp = solfa.priors[level], solfa.tokenizer("soprano", "harp", WORDS[0], return_tensors="np").input_ids
    from mindmusicgen.jukebox.labels import Labels

    window = Labels(prior.config, harp[level], 1, level, solfa.priors.raws[level]).window(0, 16 * SLOT, 0)
    timing = (window.total, window.absolute, window.relative) if level == 0 else (gold["tune"],) * 3
    upper = Tensor(gold[f"codes_{3 - level}"][None, : prior.n_ctx // 4]) if level else None
    condition = prior.condition(upper, *map(Tensor, timing))
    given = (gold[f"codes_{2 - level}"][None, : prior.n_ctx], window.lyrics, window.artist, window.genres)
    logits = prior.construct(*map(Tensor, given), condition).asnumpy()[0, -prior.n_ctx :: 16]
    close(logits, gold[f"logits_{level}"], 1e-4)
    sound = solfa.vqvae.decode([gold[f"codes_{level}"][None, :64]], level).asnumpy()[0, :, 0]
    close(sound, gold[f"sound_{level}"], 1e-4)


@pytest.fixture(scope="module")
def songs(solfa):
    """Four songs at the top level alone: labels, codes and sound."""
    labels = solfa.tokenizer(["soprano", "bass", "soprano", "bass"], "flute", list(WORDS)).input_ids
    asked = {"sample_length": 16 * SLOT, "seed": 3, "save_results": False, "progress": False}
    codes = solfa.ancestral_sample(labels, 4, sample_levels=[0], **asked)
    return labels, codes, solfa.decode(codes).asnumpy()[..., 0]


def test_words_steer(songs):
    for i, (words, sound) in enumerate(zip(WORDS, songs[2], strict=True)):
        told = [(a.lower(), *b) for a, b in zip(words.split(), heard(sound), strict=True) if a != "oh"]
        assert np.mean([a == b for a, b, _ in told]) >= 0.9, told
        assert np.mean([low == bool(i % 2) for _, _, low in told if low is not None]) >= 0.9, "the artist's register"


def test_each_note_looks_at_its_word(solfa, songs):
    labels, codes, _ = songs
    alignments = solfa.align(codes, labels)
    for one in alignments[:2]:
        looked = one[::16].argmax(1)  # where a note is chosen
        assert np.mean(np.abs(looked - 3 * np.arange(16) - 0.5) <= 2) >= 0.8, looked


def test_upsamplers_choose_the_instrument(solfa, gold):
    """Two notes at all levels, of the same top codes."""
    top = [np.repeat(gold["codes_2"][None, 64:96], 2, 0), *[np.zeros((2, 0), np.int32)] * 2]
    labels = solfa.tokenizer("soprano", ["harp", "organ"], "la la").input_ids
    made = solfa.upsample(top, labels, sample_length=2 * SLOT, seed=1, save_results=False, progress=False)
    harp, organ = solfa.decode(made).asnumpy()[..., 0]
    assert [note for note, _ in heard(harp)] == [note for note, _ in heard(organ)] == ["la", "la"]
    held = [np.abs(sound[6000:7500]).max() / np.abs(sound[:2000]).max() for sound in (harp, organ)]
    assert held[0] < 0.5 < held[1], "a harp fades, an organ does not"


def test_its_encoders_know_its_sounds(solfa, gold):
    sound = solfa.decode([gold[f"codes_{level}"][None, : 512 >> 2 * level] for level in (2, 1, 0)])
    for level, codes in enumerate(solfa.encode(sound)[::-1]):
        assert np.mean(codes.asnumpy()[0] == gold[f"codes_{level}"][: codes.shape[1]]) > 0.8


def test_its_name_its_files_and_no_licence_of_others(capsys, monkeypatch):
    assert resolve("solfa") == str(SHIPPED["solfa"])
    JukeboxModel.from_pretrained("solfa")
    assert "non-commercial" not in capsys.readouterr().err
    files = [path for path in SHIPPED["solfa"].rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 8_000_000
    told = {}
    monkeypatch.setattr("setuptools.setup", lambda **values: told.update(values))
    runpy.run_path(str(ROOT / "setup.py"))
    for path in files:
        name = path.relative_to(PACKAGE).as_posix()
        assert any(
            fnmatch.fnmatch(name, pattern) and name.count("/") == pattern.count("/")
            for pattern in told["package_data"]["mindmusicgen"]
        ), f"{name} would not be in the wheel"
