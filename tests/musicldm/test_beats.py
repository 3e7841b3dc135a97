"""The small MusicLDM of the package: it makes what diffusers makes of the same files, and what prompts ask for."""

import fnmatch
import runpy
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mindmusicgen import DPMSolverMultistepScheduler, MusicLDMPipeline
from mindmusicgen.checkpoint.source import PACKAGE, SHIPPED, resolve
from mindmusicgen.cli import main

ROOT = Path(__file__).resolve().parents[2]
KITS = ("acoustic", "electronic", "soft")
ASKED = {  # of each prompt: kit, lines of a beat, beats in a bar
    "fast acoustic techno drums": ("acoustic", 6, 4),
    "slow soft waltz": ("soft", 10, 3),
    "medium electronic disco beat": ("electronic", 8, 4),
    "fast electronic rock drum loop": ("electronic", 6, 4),
}


@pytest.fixture(scope="module")
def beats():
    return MusicLDMPipeline.from_pretrained("beats")


def test_it_makes_what_diffusers_makes(beats):
    """10 steps of DDIM from given noise; `scripts/beats_ldm/make.py` wrote down what diffusers got."""
    with np.load(ROOT / "tests" / "golden" / "beats.npz") as file:
        gold = dict(file)
    asked = {"num_inference_steps": 10, "latents": gold["noise"], "progress": False}
    latents = beats(str(gold["prompt"]), output_type="latent", **asked).audios.asnumpy()
    assert np.abs(latents - gold["latents"]).max() <= 1e-3 * np.abs(gold["latents"]).max()
    audio = beats(str(gold["prompt"]), **asked).audios
    assert np.abs(audio[:, : gold["audio"].shape[1]] - gold["audio"]).max() <= 1e-3


def test_it_does_what_prompts_say(beats):
    """Its latents can be read: see `scripts/beats_ldm/world.py`."""
    beats.scheduler = DPMSolverMultistepScheduler.from_config(beats.scheduler.config)
    made = beats(list(ASKED), num_inference_steps=20, seed=3, output_type="latent", progress=False).audios.asnumpy()
    lines = np.arange(made.shape[2])
    for picture, (kit, beat, meter) in zip(made, ASKED.values(), strict=True):
        assert KITS[picture[1, :, :6].reshape(-1, 3, 2).mean((0, 2)).argmax()] == kit

        def strength(channel, period, picture=picture):
            return abs(np.mean(picture[channel, :, 0] * np.exp(2j * np.pi * lines / period)))

        assert max((6, 8, 10), key=lambda one: strength(2, one)) == beat
        assert max((3, 4), key=lambda one: strength(3, one * beat)) == meter


def test_seeds_vary_it(beats):
    beats.scheduler = DPMSolverMultistepScheduler.from_config(beats.scheduler.config)
    asked = {"num_inference_steps": 20, "output_type": "latent", "progress": False}
    made = beats(4 * ["fast electronic disco"], seed=[1, 2, 3, 4], **asked).audios.asnumpy()
    strokes = {(picture[0] > 1).tobytes() for picture in made}
    assert len(strokes) > 1 and min((picture[0] > 1).sum() for picture in made) > 20


def test_its_name_and_its_files(tmp_path, monkeypatch):
    assert resolve("beats") == str(SHIPPED["beats"])
    files = [path for path in SHIPPED["beats"].rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 10_000_000
    told = {}
    monkeypatch.setattr("setuptools.setup", lambda **values: told.update(values))
    runpy.run_path(str(ROOT / "setup.py"))
    for path in files:
        name = path.relative_to(PACKAGE).as_posix()
        assert any(
            fnmatch.fnmatch(name, pattern) and name.count("/") == pattern.count("/")
            for pattern in told["package_data"]["mindmusicgen"]
        ), f"{name} would not be in the wheel"


def test_the_command_line_plays_it(tmp_path):
    path = tmp_path / "a.wav"
    words = ["fast electronic techno", "--model", "beats", "--steps", "5", "--scheduler", "dpm", "--seed", "1"]
    assert main(["generate", *words, "--output", str(path)]) == 0
    audio, rate = soundfile.read(path)
    assert rate == 16000 and audio.shape == (61440,) and 0.01 < np.sqrt(np.mean(audio**2)) < 0.5
