"""What `mindmusicgen batch` asks of the family: which pieces go together, and the model that makes them."""

import json
import os

from ..checkpoint.source import resolve
from ..errors import InputError
from ..runtime.telling import quoted
from . import settings
from .checkpoint import networks
from .checkpoint.folder import resolve_pipeline
from .checkpoint.info import enough_memory
from .model import MusicLDMPipeline
from .schedulers import SHORT, open_scheduler

OF_CODES = ("extend_stride", "temperature", "top_k", "top_p", "do_sample", "voice")
NAMES = {"duration": "audio_length_in_s", "steps": "num_inference_steps", "guidance_scale": "guidance_scale"}
DEFAULTS = {}  # settings of lines that say nothing


class Planner:
    """Says of prompts what they come to, without opening the model.

    Args:
        folder (ModelFolder | str): of the model.
        tokenizer: not used.
        where: not used: such a folder names nothing outside.
    """

    def __init__(self, folder, tokenizer, **where):
        folder = resolve_pipeline(resolve(folder))
        self.scheduler = open_scheduler(folder.file(settings.SCHEDULER))
        parts = [networks.read_part(folder, part) for part in ("unet", "vae", "vocoder")]
        self.sizes = settings.Sizes(*parts)

    def plan(self, prompt):
        """What a prompt comes to.

        Args:
            prompt (batch.prompts.Prompt): a line of the file.

        Returns:
            int, the samples of the music; tuple, equal for prompts that fit into one batch: same settings.

        Raises:
            InputError: naming the setting and what is wrong with it.
        """
        for name in OF_CODES:
            if prompt.settings.get(name) is not None:
                raise InputError(f"{name} is for models of codes, such as facebook/musicgen-small; leave it out")
        asked = arguments(prompt)
        scheduler = scheduler_of(prompt.settings.get("scheduler"), self.scheduler)
        settings.check(asked, scheduler)
        _, lines, samples = settings.length(self.sizes, asked.get("audio_length_in_s"))
        guided = asked.get("guidance_scale", settings.GUIDANCE) > 1
        return samples, (lines, guided, json.dumps(prompt.settings, sort_keys=True))


def scheduler_of(name, stored):
    """The scheduler that a line names, with the fields of the folder's; that one for None.

    Raises:
        InputError: for another name.
    """
    if name is None:
        return stored
    if name not in SHORT:
        raise InputError(f"scheduler is {quoted(str(name))}; expected one of {', '.join(SHORT)}")
    return SHORT[name].from_config(stored.config)


def arguments(prompt):
    """Arguments of the pipeline's call from the settings of a line."""
    return {NAMES[name]: value for name, value in prompt.settings.items() if name in NAMES}


class Maker:
    """A model that turns batches of prompts into clips.

    Args:
        folder (str): the model's folder.
        dtype (str): float32 or float16, of the UNet.
        quantization (str): None.
        source (dict): not used: such a folder names nothing outside.
    """

    def __init__(self, folder, dtype="float32", quantization=None, source=None):
        if quantization:
            raise InputError("--quantization is for models of codes, such as facebook/musicgen-small; leave it out")
        self.model = MusicLDMPipeline.from_pretrained(os.fspath(folder), dtype=dtype)
        self.stored = self.model.scheduler

    @property
    def sampling_rate(self):
        """Samples per second of the clips."""
        return self.model.sampling_rate

    def clips(self, prompts):
        """One batch.

        Args:
            prompts (list[Prompt]): with the same settings.

        Returns:
            numpy.ndarray: float32, [B, 1, samples].
        """
        self.model.scheduler = scheduler_of(prompts[0].settings.get("scheduler"), self.stored)
        negative = [prompt.negative_text or "" for prompt in prompts]
        asked = arguments(prompts[0]) | {"negative_prompt": negative if any(negative) else None}
        with enough_memory(self.model, len(prompts), asked.get("audio_length_in_s")):
            made = self.model([one.text for one in prompts], seed=[one.seed for one in prompts], **asked)
        return made.audios[:, None]
