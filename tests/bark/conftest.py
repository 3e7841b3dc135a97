"""Bark's tiny golden folder, opened once, and what suno's own program made with it: see tests/golden/bark/README.md."""

import json
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "bark"


class GoldenBark:
    """The folder's arrays, runs and texts."""

    def __init__(self):
        self.folder = str(FOLDER)
        with np.load(FOLDER / "expected.npz") as file:
            self.arrays = dict(file)
        made = json.loads((FOLDER / "runs.json").read_text(encoding="utf-8"))
        self.runs, self.texts = made["runs"], made["texts"]

    def __getitem__(self, name):
        values = self.arrays[name]
        return values.astype(np.int32) if values.dtype == np.uint8 else values

    def preset(self, name):
        """None, or the path of a preset without its .npz."""
        return None if name is None else str(FOLDER / f"preset_{name}")

    def voice(self, name):
        """None, or the arrays of a preset."""
        from mindmusicgen.bark.presets import open_preset

        return None if name is None else open_preset(self.preset(name))


@pytest.fixture(scope="session")
def golden():
    return GoldenBark()


@pytest.fixture(scope="session")
def bark(golden):
    from mindmusicgen.bark.model import BarkModel

    return BarkModel.from_pretrained(golden.folder)


@pytest.fixture(scope="session")
def processor(golden):
    from mindmusicgen.bark.processing import BarkProcessor

    return BarkProcessor.from_pretrained(golden.folder)


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
