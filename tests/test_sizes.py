"""What a config alone says: parameters and memory of the published models, and `mindmusicgen info` without weights."""

import math
import os

import pytest

from mindmusicgen import cli
from mindmusicgen.checkpoint.source import DEMO
from mindmusicgen.musicgen.checkpoint import info, sizes
from mindmusicgen.musicgen.checkpoint.folder import open_folder

SAFETENSORS = {  # GB of the float32 weights on the hub, which hold weight norm's lengths and some buffers besides
    "facebook/musicgen-small": 2.36,
    "facebook/musicgen-medium": 8.04,
    "facebook/musicgen-large": 13.7,
}


@pytest.mark.parametrize("name", ["quad", "plain", "eight", "stereo", "melody", "causal", "constant"])
def test_a_config_counts_what_its_weights_are(goldens, name, tmp_path):
    folder = str(goldens(name).write(tmp_path / name))
    config, tensors = open_folder(folder)
    counted, real = sizes.parameters(config), info.parameter_counts(tensors)
    norms = sum(tensor.shape[0] for key, tensor in tensors.items() if key.endswith(("original0", "weight_g")))
    assert counted == real | {"codec": real["codec"] - norms}


def test_the_demo_is_counted_too():
    config, tensors = open_folder(str(DEMO))
    real = info.parameter_counts(tensors)
    assert sizes.parameters(config)["decoder"] == real["decoder"]
    assert sizes.parameters(config)["text encoder"] == real["text encoder"]


@pytest.mark.parametrize(("name", "size"), SAFETENSORS.items())
def test_published_models_have_their_published_sizes(name, size):
    config = sizes.published_config(name)
    assert sizes.weight_bytes(config, sizes.parameters(config), "float32") / 1e9 == pytest.approx(size, rel=0.005)


def test_a_step_reads_what_is_multiplied():
    """14 D^2 a layer (self-attention 4, cross-attention 2, feed-forward 8), and the heads."""
    decoder = sizes.published_config("facebook/musicgen-small").decoder
    assert sizes.step_weights(decoder) == 24 * 14 * 1024**2 + 4 * 2048 * 1024
    melody = sizes.published_config("facebook/musicgen-melody").decoder
    assert sizes.step_weights(melody, melody=True) == 48 * 12 * 1536**2 + 4 * 2048 * 1536


def test_narrower_numbers_take_less():
    config = sizes.published_config("facebook/musicgen-stereo-large")
    counts = sizes.parameters(config)
    wide, half, eight = (sizes.weight_bytes(config, counts, name) for name in ("float32", "float16", "int8"))
    assert math.isclose(wide, 4 * sum(counts.values()))
    assert 0.5 * wide < half < 0.53 * wide and 0.25 * wide < eight < 0.35 * wide
    needs = {name: info.needs(config, counts, 30, 4, name) for name in ("float32", "float16", "int8")}
    assert needs["float16"]["KV cache"] == needs["float32"]["KV cache"] / 2
    assert needs["int8"]["KV cache"] == needs["float32"]["KV cache"] / 4


@pytest.mark.parametrize(  # gigabytes at the peak of `generate` in a process of its own (VmHWM), MindSpore 2.10.0
    ("name", "numbers", "seconds", "batch", "measured"),
    [
        ("demo", "float32", 10, 1, 1.02),
        ("demo", "float32", 30, 4, 2.92),
        ("small", "float32", 10, 1, 4.10),
        ("small", "int8", 10, 1, 1.77),
        ("small", "float32", 600, 1, 4.3),  # windows of 30 s, decoded in pieces
    ],
)
def test_memory_is_close_to_what_was_measured(name, numbers, seconds, batch, measured):
    config = open_folder(str(DEMO))[0] if name == "demo" else sizes.published_config(f"facebook/musicgen-{name}")
    computed = sum(info.needs(config, sizes.parameters(config), seconds, batch, numbers).values()) / 1e9
    assert 0.97 * measured < computed < 1.25 * measured


def test_info_without_weights(tmp_path, capsys):
    (tmp_path / "config.json").write_bytes((DEMO / "config.json").read_bytes())
    assert cli.main(["info", str(tmp_path)]) == 0
    alone = capsys.readouterr().out
    assert " GB, as " in alone.splitlines()[-1]
    assert "a config without weights" in alone and "6.3 M parameters" in alone and "stored as" not in alone
    assert cli.main(["info", "demo"]) == 0
    whole = capsys.readouterr().out
    memory = [text[text.index("  memory") :].split(" GB")[0] for text in (alone, whole)]
    assert memory[0] == memory[1]


def test_info_of_a_published_model_downloads_nothing(tmp_path, capsys):
    words = ["info", "facebook/musicgen-stereo-melody-large", "--cache-dir", str(tmp_path), "--table"]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert "MusicGen with melody, stereo, as published" in said and "48 layers of 2048, 32 heads, 8 codebooks" in said
    rows = {line.strip().split("  ")[0]: line.split()[-5:] for line in said.splitlines() if " s  " in line}
    assert set(rows) == {f"{kind}, {seconds} s" for kind in ("float32", "float16") for seconds in (10, 30)}
    for row in rows.values():
        values = list(map(float, row))
        assert values == sorted(values) and values[0] > 5
    assert os.listdir(tmp_path) == []
