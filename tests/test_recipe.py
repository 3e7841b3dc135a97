"""The same piece is the same file, byte for byte, and every file keeps the recipe of what it holds."""

import json
import time

import numpy as np
import pytest
import soundfile

from mindmusicgen import cli
from mindmusicgen.audio import read_comment, write_audio
from mindmusicgen.musicgen import batching
from mindmusicgen.sound.recipe import LONGEST_COMMENT, recipe_comment

TONES = 0.3 * np.sin(np.arange(90000) / np.array([[20], [33]])).astype(np.float32)


@pytest.mark.parametrize(
    ("ending", "depth"), [("wav", 16), ("wav", 24), ("wav", 32), ("flac", 24), ("ogg", None), ("mp3", None)]
)
def test_the_same_piece_is_the_same_file(tmp_path, ending, depth):
    made = []
    for name in "ab":
        path = str(tmp_path / f"{name}.{ending}")
        write_audio(path, TONES, 32000, bit_depth=depth, comment='{"prompt": "PEAK OggS 水"}')
        with open(path, "rb") as file:
            made.append(file.read())
        time.sleep(1.1)  # libsndfile's clock has seconds
    assert made[0] == made[1] and read_comment(path) == '{"prompt": "PEAK OggS 水"}'
    values, _ = soundfile.read(path)
    assert values.shape == (90000, 2) and np.abs(values.T - TONES).max() < (0.05 if depth is None else 1e-4)


@pytest.mark.parametrize(
    "recipe",
    [
        {"prompt": "\0" * 600},  # six bytes each in JSON
        {"prompt": '"\\' * 300, "negative_prompt": '"\\' * 300},
        {"prompt": "水" * 5000, "negative_prompt": "火" * 5000, "model": "m" * 255},
        {"prompt": "a" * 600, "negative_prompt": "b" * 600, "model": "水" * 85, "quantization": "c" * 600},
        {"audio": ["\x01" * 255], "melody": ["\x01" * 255], "prompt": "\x01" * 600},
        {"model": "no text \udcff"},
    ],
)
def test_every_format_keeps_every_recipe(tmp_path, recipe):
    recipe |= {"seed": 7, "guidance_scale": [4.0, 2.0], "duration": 10.0}
    comment = recipe_comment(recipe)
    assert len(comment.encode()) <= LONGEST_COMMENT and json.loads(comment)["seed"] == 7
    changed = recipe_comment({name: value + "?" if isinstance(value, str) else value for name, value in recipe.items()})
    assert changed != comment or "audio" not in recipe
    for ending in ("wav", "flac", "ogg", "mp3"):
        path = str(tmp_path / f"a.{ending}")
        write_audio(path, TONES[:1, :100], 32000, comment=comment)
        assert read_comment(path) == comment


def test_short_recipes_stay_as_they_are():
    recipe = {"prompt": "“80s pop” 钢琴 " * 20, "seed": 3, "audio": ["a.wav"]}
    assert json.loads(recipe_comment(recipe)) == recipe


@pytest.fixture
def little_model(tmp_path_factory, monkeypatch):
    import sys
    from pathlib import Path

    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "scripts"))
    sys.modules.pop("random_checkpoint", None)
    from random_checkpoint import build

    folder = tmp_path_factory.mktemp("model")
    build("tiny", str(folder))
    for name in ("RANK_ID", "RANK_SIZE", "MS_WORKER_NUM", "MS_ROLE"):
        monkeypatch.delenv(name, raising=False)
    return str(folder)


def test_batches_are_computed_alike_whatever_is_there(little_model, tmp_path, capsys, monkeypatch):
    """A piece of a resumed run equals that of an undisturbed one: its batch holds the same pieces."""
    texts = ("a", "b", "\0" * 600, "d", "e")
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    words = ["batch", str(tmp_path / "p.jsonl"), "--model", little_model, "--duration", "0.2", "--batch-size", "2"]
    seen, clips = [], batching.Maker.clips

    def noted(maker, prompts):
        seen.append([prompt.line for prompt in prompts])
        return clips(maker, prompts)

    monkeypatch.setattr(batching.Maker, "clips", noted)
    out = tmp_path / "out"
    assert cli.main([*words, "--output", str(out)]) == 0
    undisturbed, whole = {file.name: file.read_bytes() for file in out.iterdir()}, list(seen)
    seen.clear()
    assert cli.main([*words, "--output", str(out)]) == 0 and not seen  # a wav's long comment was lost once
    (out / "00002.wav").unlink()
    (out / "00005.wav").write_bytes(b"half")
    kept = (out / "00001.wav").stat().st_mtime_ns
    capsys.readouterr()
    assert cli.main([*words, "--output", str(out)]) == 0
    assert "5 pieces: 2 made, 3 were there already, 0 failed" in capsys.readouterr().err
    assert seen == [batch for batch in whole if 2 in batch or 5 in batch]
    assert {file.name: file.read_bytes() for file in out.iterdir()} == undisturbed
    assert (out / "00001.wav").stat().st_mtime_ns == kept
