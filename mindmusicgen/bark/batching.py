"""What `mindmusicgen batch` asks of the family: which pieces go together, and the model that makes them."""

import json

from ..checkpoint.source import resolve
from ..errors import InputError
from . import settings
from .checkpoint.folder import load_config, load_generation_config
from .checkpoint.info import enough_memory
from .model import BarkModel
from .processing import MAX_LENGTH, BarkProcessor

OF_MUSIC = ("extend_stride", "guidance_scale")
DEFAULTS = {}  # settings of lines that say nothing


class Planner:
    """Says of texts what they come to, without opening the model.

    Args:
        folder (ModelFolder | str): of the model.
        tokenizer (transformers.PreTrainedTokenizerBase): of the model.
        where: cache_dir and local_files_only, for what the model's folder only names.
    """

    def __init__(self, folder, tokenizer, **where):
        self.tokenizer, self.config = tokenizer, load_config(folder, **where)
        self.defaults = load_generation_config(folder, self.config)
        self.processor = BarkProcessor.from_pretrained(folder, **where)

    def plan(self, prompt):
        """What a text comes to.

        Args:
            prompt (batch.prompts.Prompt): a line of the file.

        Returns:
            None, for nobody knows the length before; tuple, equal for texts that fit into one batch: same settings.

        Raises:
            InputError: naming the setting and what is wrong with it.
        """
        if prompt.negative_text is not None:
            raise InputError("negative_text is for models of music; Bark speaks what the text says")
        chosen = settings.resolve(
            self.config, self.defaults, options(prompt.settings, self.config, self.defaults), 1, prompt.seed
        )
        tokens = len(self.tokenizer(prompt.text, add_special_tokens=False, verbose=False)["input_ids"])
        if tokens > MAX_LENGTH:
            raise InputError(f"the text has {tokens} tokens and Bark reads {MAX_LENGTH}; divide it into several lines")
        if prompt.settings.get("voice"):
            self.processor.preset(prompt.settings["voice"])
        return None, (json.dumps({**prompt.settings, "voice": None}, sort_keys=True), chosen.codebook_size)


def options(given, config, defaults):
    """Arguments of `generate` from the settings of a line.

    Args:
        given (dict): settings of a `batch.prompts.Prompt`.
        config (BarkConfig): of the model.
        defaults (transformers.GenerationConfig): its settings.

    Raises:
        InputError: for a setting of music, or too long a piece.
    """
    for name in OF_MUSIC:
        if given.get(name) is not None:
            raise InputError(f"{name} is for models of music; leave it out")
    made = {name: value for name, value in given.items() if name not in ("voice", "duration")}
    if given.get("duration") is not None:
        made["max_new_tokens"] = settings.tokens_of(config, defaults, given["duration"])
    return made


class Maker:
    """A model that turns batches of texts into clips.

    Args:
        folder (str): the model's folder.
        dtype (str): float32 or float16.
        quantization (str): "int8" or None.
        source (dict): cache_dir and local_files_only, for what a folder only names.
    """

    def __init__(self, folder, dtype="float32", quantization=None, source=None):
        folder, source = resolve(folder), source or {}
        named = {"quantization": quantization} if quantization else {}
        self.processor = BarkProcessor.from_pretrained(folder, **source)
        self.model = BarkModel.from_pretrained(folder, dtype=dtype, **named, **source)

    @property
    def sampling_rate(self):
        """Samples per second of the clips."""
        return self.model.sampling_rate

    def clips(self, prompts):
        """One batch.

        Args:
            prompts (list[Prompt]): with the same settings but for the voice.

        Returns:
            list[numpy.ndarray]: float32, [1, samples] each.
        """
        voices = [prompt.settings.get("voice") for prompt in prompts]
        inputs = self.processor([prompt.text for prompt in prompts], voice_preset=voices)
        chosen = options(prompts[0].settings, self.model.config, self.model.generation_config)
        seeds = [prompt.seed for prompt in prompts]
        with enough_memory(self.model, len(prompts)):
            audio, lengths = self.model.generate(**inputs, **chosen, seed=seeds, return_output_lengths=True)
        return [clip[None, :length] for clip, length in zip(audio.asnumpy(), lengths, strict=True)]
