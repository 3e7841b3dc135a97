"""What a call of `generate` asks for: its arguments over generation_config.json over transformers' defaults."""

import math
import numbers
import secrets
from dataclasses import dataclass

from ..errors import InputError
from .delay_pattern import columns_for

TRAINED_SECONDS = 30  # what MusicGen was trained on; nothing beyond it was ever heard in training

# transformers' GenerationConfig defaults; from version 5 on an unset value reads as None.
DEFAULTS = {"do_sample": False, "temperature": 1.0, "top_k": 50, "top_p": 1.0, "max_length": 20}
PASSED_ON = ("do_sample", "guidance_scale", "max_length", "max_new_tokens", "temperature", "top_k", "top_p")


@dataclass(frozen=True)
class Settings:
    """Checked settings of one call.

    Attributes:
        do_sample: sample, or take the most likely code.
        guidance_scale: 1.0 for none.
        length: columns in all, start column and prompt included.
        temperature, top_k, top_p: as in transformers; top_k 0 and top_p 1 filter nothing.
        seeds: one per prompt.
    """

    do_sample: bool
    guidance_scale: float
    length: int
    temperature: float
    top_k: int
    top_p: float
    seeds: tuple


def _number(name, value, low, high=math.inf, above=False):
    wanted = f"{'above' if above else 'at least'} {low}" + (f" and at most {high}" if high < math.inf else "")
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise InputError(f"{name} is {value!r}; expected a finite number {wanted}")
    if value < low or value > high or (above and value == low):
        raise InputError(f"{name} is {value!r}; expected a number {wanted}")
    return float(value)


def _whole(name, value, low):
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < low:
        raise InputError(f"{name} is {value!r}; expected a whole number of at least {low}")
    return int(value)


def resolve_seeds(seed, prompts):
    """One seed per prompt: consecutive from `seed`, as given in a list, or fresh entropy for None."""
    if seed is None:
        seed = secrets.randbits(31)
    if isinstance(seed, (list, tuple)):
        if len(seed) != prompts:
            raise InputError(
                f"seed has {len(seed)} entries for {prompts} prompts; give one number, or one for each prompt"
            )
        return tuple(_whole("seed", value, 0) for value in seed)
    first = _whole("seed", seed, 0)
    return tuple(first + i for i in range(prompts))


def max_columns(config):
    """The most columns that can be predicted for a model: 30 s, or fewer if its positions end earlier.

    Args:
        config (transformers.MusicgenConfig): config of the whole model.
    """
    decoder = config.decoder
    frames = TRAINED_SECONDS * config.audio_encoder.frame_rate
    return min(columns_for(frames, decoder.num_codebooks, decoder.audio_channels), decoder.max_position_embeddings)


def resolve(config, generation_config, arguments, prompts, prompt_frames, seed):
    """Merge and check.

    Args:
        config (transformers.MusicgenConfig): config of the whole model.
        generation_config (transformers.GenerationConfig): its defaults.
        arguments (dict): what the call gave; None means not given.
        prompts (int): number of prompts.
        prompt_frames (int): frames of audio prompt before the new ones.
        seed (int | Sequence[int] | None): see `resolve_seeds`.

    Returns:
        Settings

    Raises:
        InputError: naming the argument, what is wrong and what would be right.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    unknown = sorted(set(given) - set(PASSED_ON) - {"num_beams", "num_return_sequences", "use_cache"})
    if unknown:
        raise InputError(f"generate does not take {unknown[0]!r}; it takes {', '.join(PASSED_ON)} and seed")
    if given.get("num_beams", 1) != 1 or (generation_config.num_beams or 1) != 1:
        raise InputError("num_beams must be 1: MusicGen is decoded greedily or by sampling, not by beam search")
    if given.get("num_return_sequences", 1) != 1:
        raise InputError("num_return_sequences must be 1; repeat the prompt to get several pieces")

    def value(name):
        stored = getattr(generation_config, name, None)
        return given.get(name, DEFAULTS.get(name) if stored is None else stored)

    guidance = value("guidance_scale")
    top_k = value("top_k")
    return Settings(
        do_sample=bool(value("do_sample")),
        guidance_scale=1.0 if guidance is None else max(_number("guidance_scale", guidance, 0), 1.0),
        length=_length(config, given, generation_config, value("max_length"), prompt_frames),
        temperature=_number("temperature", value("temperature"), 0, above=True),
        top_k=0 if top_k is None else _whole("top_k", top_k, 0),
        top_p=_number("top_p", value("top_p"), 0, 1),
        seeds=resolve_seeds(seed, prompts),
    )


def _length(config, given, generation_config, max_length, prompt_frames):
    """Columns in all; max_new_tokens wins over max_length, a call's over the config's."""
    known = 1 + prompt_frames
    new = given.get("max_new_tokens")
    if new is None and "max_length" not in given:
        new = generation_config.max_new_tokens
    name = "max_length" if new is None else "max_new_tokens"
    length = _whole("max_length", max_length, 2) if new is None else known + _whole("max_new_tokens", new, 1)
    limit = max_columns(config)
    if length - 1 > limit:
        raise InputError(
            f"{name} asks for {length - 1} columns of codes; this model was trained for at most {limit} "
            f"({limit / config.audio_encoder.frame_rate:.0f} s)"
        )
    if length <= known:
        raise InputError(f"{name} leaves nothing to generate after a prompt of {prompt_frames} frames; ask for more")
    return length
