"""What `mindmusicgen batch` asks of the family: which songs go together, and the model that makes them."""

import json
import os
from dataclasses import asdict

import numpy as np

from ..checkpoint.source import as_folder, resolve
from ..errors import InputError
from . import settings
from .checkpoint.folder import load_config
from .checkpoint.info import enough_memory
from .command import SECONDS, labels_of, open_model, samples_of, sampling
from .run_folder import digest

SINGS = True  # lines say artist, genre and lyrics; what is made so far is kept in a folder of its own
OF_OTHERS = ("guidance_scale", "voice", "steps", "scheduler")
DEFAULTS = {"duration": SECONDS}  # settings of lines that say nothing
SONG = ("artist", "genre", "lyrics")


class Planner:
    """Says of songs what they come to, without opening the model.

    Args:
        folder (ModelFolder | str): of the model.
        tokenizer: not used.
        where: not used: such a folder names nothing outside.
    """

    def __init__(self, folder, tokenizer, **where):
        self.folder, self.config = as_folder(folder), load_config(folder)

    def plan(self, prompt):
        """What a song comes to.

        Args:
            prompt (batch.prompts.Prompt): a line of the file.

        Returns:
            int, the samples of the music; tuple, equal for songs that fit into one batch: same settings.

        Raises:
            InputError: naming the setting and what is wrong with it.
        """
        if not prompt.song:
            raise InputError("Jukebox takes no text; say artist, genre or lyrics")
        if prompt.negative_text is not None:
            raise InputError("negative_text is for models of music without words; leave it out")
        for name in OF_OTHERS:
            if prompt.settings.get(name) is not None:
                raise InputError(f"{name} is for other models; leave it out")
        options = arguments(self.config, prompt.settings)
        labels = labels_of(self.folder, *([prompt.settings.get(name, "")] for name in SONG))
        empty = [np.zeros((1, 0), np.int32) for _ in labels]
        request = settings.resolve(self.config, self.config.raws, empty, labels, None, options | {"seed": prompt.seed})
        same = {name: value for name, value in prompt.settings.items() if name not in SONG}
        return request.wanted[0] * self.config.raws[0], (json.dumps(same, sort_keys=True),)


def arguments(config, given):
    """Arguments of sampling from the settings of a line."""
    return sampling(config, given, samples_of(given["duration"], config.sampling_rate))


class Maker:
    """A model that turns batches of songs into clips.

    Args:
        folder (str): the model's folder.
        dtype (str): float32 or float16.
        quantization (str): "int8" or None.
        source (dict): cache_dir and local_files_only.
        runs (str): where the folder of each batch's run lies, so that a batch that was cut goes on.
    """

    def __init__(self, folder, dtype="float32", quantization=None, source=None, runs="."):
        self.folder, self.runs = as_folder(resolve(folder)), runs
        self.model = open_model(self.folder, dtype, quantization, **(source or {}))

    @property
    def sampling_rate(self):
        """Samples per second of the clips."""
        return self.model.sampling_rate

    def clips(self, prompts):
        """One batch.

        Args:
            prompts (list[Prompt]): with the same settings but for artist, genre and lyrics.

        Returns:
            numpy.ndarray: float32, [B, 1, samples].
        """
        labels = labels_of(self.folder, *([one.settings.get(name, "") for one in prompts] for name in SONG))
        told = json.dumps([asdict(one) | {"line": None} for one in prompts], sort_keys=True).encode()
        where = {"output_dir": os.path.join(self.runs, f"run-{digest(np.frombuffer(told, np.uint8))}"), "resume": True}
        options = arguments(self.model.config, prompts[0].settings)
        with enough_memory(self.model, len(prompts)):
            seeds = [one.seed for one in prompts]
            made = self.model.ancestral_sample(labels, len(prompts), seed=seeds, **options, **where)
            return self.model.decode(made).asnumpy().transpose(0, 2, 1)
