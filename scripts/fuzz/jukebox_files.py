"""Damaged files of Jukebox, for `checkpoints.py`: its config and lists, a run's folder, files of torch before 1.6."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "jukebox" / "golden" / "1b"
LISTS = ("artists.json", "genres.json", "lyrics.json", "tokenizer_config.json")


def kinds(Kind):
    """What is added to `checkpoints.KINDS`.

    Args:
        Kind (type): `checkpoints.Kind`.

    Returns:
        dict of name to (title, class).
    """

    class Settings(Kind):
        """config.json and the lists of names, up to a song's labels."""

        files = ["config.json", "config.json", *LISTS]

        def make(self):
            for name in ("config.json", *LISTS):
                shutil.copy(GOLDEN / name, os.path.join(self.folder, name))

        def read(self):
            from mindmusicgen.jukebox.checkpoint import info
            from mindmusicgen.jukebox.checkpoint.folder import load_config
            from mindmusicgen.jukebox.settings import resolve
            from mindmusicgen.jukebox.tokenizer import JukeboxTokenizer

            config = load_config(self.folder)
            info.describe(self.folder, 0.5)
            tokenizer = JukeboxTokenizer.from_pretrained(self.folder)
            labels = tokenizer("mara stone", "deep rock", "old town road", return_tensors="np").input_ids
            empty = [np.zeros((1, 0), np.int32) for _ in config.raws]
            resolve(config, config.raws, empty, labels, None, {"sample_length": 2048, "seed": 1})

    class Run(Kind):
        """The folder of a run that is gone on with: its facts, its recipe and its codes."""

        files = ["run.json", "run.json", "given.npz", "level_0/codes.npy"]
        facts = {"model": "a", "codes": [8, 32, 128], "seeds": [5, 6], "top_k": 0}

        def make(self):
            from mindmusicgen.jukebox.run_folder import RunFolder

            self.given = [np.zeros((2, n), np.int32) for n in (2, 8, 32)]
            recipe = {"model": "demo", "artist": "a", "lyrics": "b", "duration": 3, "seed": [5, 6], "temperature": 1.5}
            run = RunFolder(self.folder, self.facts, self.given, 32, 100, recipe=recipe)
            run.keep(0, np.pad(self.given[0], ((0, 0), (0, 3))))

        def read(self):
            from mindmusicgen.commands.job import Job
            from mindmusicgen.commands.like import make_like
            from mindmusicgen.commands.song import recipe_source
            from mindmusicgen.jukebox.run_folder import RunFolder, given_codes, made_codes

            job = Job([], output=self.folder, resume=True)
            make_like(replace(job, like=recipe_source(job)))
            given = [one.tobytes() for one in given_codes(self.folder, 3)]
            made_codes(self.folder, 3)
            run = RunFolder(self.folder, self.facts, self.given, 32, 100, resume=True)
            return given, run.codes(0, self.given[0]).tobytes()

        def attempt(self, rng):
            try:
                return super().attempt(rng)
            finally:  # resuming wrote it anew
                self.put("run.json", self.whole["run.json"])

    class Legacy(Kind):
        """prior_level_0.pth.tar as torch wrote it before 1.6; such files have no checksums."""

        files = ["prior_level_0.pth.tar"]

        def make(self):
            from test_torch_legacy import BODY, VALUES, save

            save(Path(self.folder) / self.files[0], BODY, VALUES)

        def read(self):
            from mindmusicgen.checkpoint.torch_file import open_torch_file

            tensors = open_torch_file(os.path.join(self.folder, self.files[0]), "model")
            for tensor in tensors.values():
                tensor.read()

    return {
        "jukebox": ("config.json and lists of a Jukebox", Settings),
        "jukebox_run": ("folder of a Jukebox's run: run.json and codes", Run),
        "legacy": ("files of torch before 1.6", Legacy),
    }
