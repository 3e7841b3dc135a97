"""Jukebox's two tiny golden folders, opened once, and what openai/jukebox made with them: see golden/README.md."""

import json
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parent / "golden"
VARIANTS = ("1b", "5b")


class GoldenJukebox:
    """A folder's arrays, runs and texts, and the model in it."""

    def __init__(self, variant):
        self.variant, self.folder = variant, str(FOLDER / variant)
        with np.load(FOLDER / variant / "expected.npz") as file:
            self.arrays = dict(file)
        self.settings = json.loads((FOLDER / variant / "settings.json").read_text(encoding="utf-8"))
        self.runs, self.metas = self.settings["runs"], self.settings["metas"]
        self._model = self._labels = None

    def __getitem__(self, name):
        return self.arrays[name]

    def __contains__(self, name):
        return name in self.arrays

    @property
    def model(self):
        """The package's model of the folder."""
        if self._model is None:
            from mindmusicgen.jukebox.model import JukeboxModel

            self._model = JukeboxModel.from_pretrained(self.folder)
        return self._model

    @property
    def labels(self):
        """What the tokenizer makes of the two songs, an array for each prior."""
        if self._labels is None:
            from mindmusicgen.jukebox.tokenizer import JukeboxTokenizer

            songs = zip(*((one["artist"], one["genre"], one["lyrics"]) for one in self.metas), strict=True)
            self._labels = JukeboxTokenizer.from_pretrained(self.folder)(*songs, return_tensors="np").input_ids
        return self._labels

    def codes(self, run, level):
        """All codes of a run at a prior's level; ours are numbered from the top."""
        return self[f"{run}_codes_{2 - level}"]

    def asked(self, run, **more):
        """The arguments of a run."""
        facts = self.runs[run]
        return {
            "sample_length": facts["sample_length"],
            "total_length_in_seconds": facts["total_length"] / 44100,
            "offset": facts["offset"],
            "top_k": 1,
            "sampling_temperature": 0.99,
            "save_results": False,
        } | more


@pytest.fixture(scope="session")
def both():
    """The two folders by name."""
    return {variant: GoldenJukebox(variant) for variant in VARIANTS}


@pytest.fixture(params=VARIANTS)
def golden(request, both):
    return both[request.param]


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
