"""MusicLDM's tiny golden folder, and what diffusers' pipeline computed with it: see tests/golden/musicldm/README.md."""

import json
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "musicldm"


class GoldenMusicLDM:
    """The folder's arrays and settings."""

    def __init__(self):
        self.folder = str(FOLDER)
        with np.load(FOLDER / "expected.npz") as file:
            self.arrays = dict(file)
        self.settings = json.loads((FOLDER / "settings.json").read_text(encoding="utf-8"))
        self.prompts, self.negative = self.settings["prompts"], self.settings["negative_prompt"]

    def __getitem__(self, name):
        return self.arrays[name]

    def json(self, name):
        """A JSON file of the folder."""
        return json.loads((FOLDER / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def golden():
    return GoldenMusicLDM()


@pytest.fixture(scope="session")
def pipe(golden):
    from mindmusicgen import MusicLDMPipeline

    return MusicLDMPipeline.from_pretrained(golden.folder)


@pytest.fixture
def ddim(golden, pipe):
    """The pipeline with its own scheduler."""
    from mindmusicgen import DDIMScheduler

    pipe.scheduler = DDIMScheduler.from_config(golden.json("scheduler/scheduler_config.json"))
    return pipe


@pytest.fixture
def unstepped(ddim, monkeypatch):
    """The pipeline without its UNet, whose graphs take long to compile: the noise itself becomes sound."""
    from mindmusicgen.musicldm.settings import Noise

    def latents(request, work):
        return Noise(request.seeds, (8, request.lines, ddim.columns)).draw()

    monkeypatch.setattr(ddim, "_latents", latents)
    return ddim


@pytest.fixture
def near():
    """A function that compares arrays relative to the largest of what is expected."""

    def check(found, expected, tolerance):
        found = found.asnumpy() if hasattr(found, "asnumpy") else np.asarray(found)
        assert found.shape == expected.shape
        error = np.abs(found.astype(np.float64) - expected).max() / np.abs(expected).max()
        assert error <= tolerance, error

    return check


@pytest.fixture
def refused():
    """A function that expects an InputError with these words in it, of at most 300 characters."""
    from mindmusicgen.errors import InputError

    def check(call, *words):
        with pytest.raises(InputError) as caught:
            call()
        said = str(caught.value)
        assert len(said) <= 300 and "\n" not in said
        for word in words:
            assert word in said, said

    return check
