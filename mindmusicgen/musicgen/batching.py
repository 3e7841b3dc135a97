"""What `mindmusicgen batch` asks of the family: which pieces go together, and the model that makes them."""

import json

from ..auto import AutoProcessor, model_class
from ..checkpoint.source import resolve
from ..errors import InputError
from ..generation.decode_loop import TEXT_BUCKETS, bucket
from . import settings
from .checkpoint.folder import load_config, load_generation_config
from .checkpoint.info import enough_memory
from .processing import MAX_TOKENS

DEFAULTS = {"duration": 10.0}  # settings of lines that say nothing


class Planner:
    """Says of prompts what they come to, without opening the model.

    Args:
        folder (ModelFolder | str): of the model.
        tokenizer (transformers.PreTrainedTokenizerBase): of the model.
        where: cache_dir and local_files_only, for what the model's folder only names.
    """

    def __init__(self, folder, tokenizer, **where):
        self.tokenizer, self.config = tokenizer, load_config(folder, **where)
        self.defaults = load_generation_config(folder, self.config.decoder)

    def plan(self, prompt):
        """What a prompt comes to.

        Args:
            prompt (batch.prompts.Prompt): a line of the file.

        Returns:
            int, the samples of the music; tuple, equal for prompts that fit into one batch: same settings, same length
            of text and music.

        Raises:
            InputError: naming the setting and what is wrong with it.
        """
        if prompt.settings.get("voice") is not None:
            raise InputError("voice is for models that speak, such as suno/bark-small; leave it out")
        chosen = settings.resolve(self.config, self.defaults, prompt.settings, 1, 0, prompt.seed)
        if prompt.negative_text and not chosen.guided:
            raise InputError("a negative text works through guidance; give a guidance_scale above 1")
        texts = [text for text in (prompt.text, prompt.negative_text) if text]
        tokens = max(len(self.tokenizer(text, verbose=False)["input_ids"]) for text in texts)
        width = bucket(min(tokens, MAX_TOKENS), TEXT_BUCKETS)
        same = json.dumps(prompt.settings, sort_keys=True)
        group = (chosen.plan.frames, width, prompt.negative_text is not None, same)
        return chosen.plan.frames * self.config.audio_encoder.hop_length, group


class Maker:
    """A model that turns batches of prompts into clips.

    Args:
        folder (str): the model's folder, or "demo".
        dtype (str): float32 or float16.
        quantization (str): "int8", "int4" or None.
        source (dict): cache_dir and local_files_only, for what a folder only names.
    """

    def __init__(self, folder, dtype="float32", quantization=None, source=None):
        folder = resolve(folder)
        self.processor = AutoProcessor.from_pretrained(folder, **(source or {}))
        opened = model_class(folder).from_pretrained(folder, dtype=dtype, quantization=quantization, **(source or {}))
        self.model = opened.run_eagerly()  # which decodes one clip at a time: it is then the same in every batch

    @property
    def sampling_rate(self):
        """Samples per second of the clips."""
        return self.model.sampling_rate

    def clips(self, prompts):
        """One batch.

        Args:
            prompts (list[Prompt]): with the same settings.

        Returns:
            numpy.ndarray: float32, [B, channels, samples].
        """
        negative = [prompt.negative_text for prompt in prompts]
        inputs = self.processor(
            text=[prompt.text for prompt in prompts], negative_text=negative if negative[0] is not None else None
        )
        seeds = [prompt.seed for prompt in prompts]
        with enough_memory(self.model, prompts[0].settings["duration"], len(prompts)):
            one = {"num_return_sequences": 1, "return_dict_in_generate": False}  # whatever the model's config says
            return self.model.generate(**inputs, **prompts[0].settings, **one, seed=seeds).asnumpy()
