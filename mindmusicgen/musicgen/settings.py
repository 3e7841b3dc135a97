"""What a call of `generate` asks for: its arguments over generation_config.json over transformers' defaults."""

import warnings
from dataclasses import dataclass

from ..arguments import number, resolve_seeds
from ..errors import InputError, shown, whole_number
from ..generation.sampling import COLDEST, HOTTEST
from .delay_pattern import columns_for
from .generation_config import check_generation_config
from .windows import Plan

TRAINED_SECONDS = 30  # what MusicGen was trained on; nothing beyond it was ever heard in training
STRIDE_SECONDS = 18.0  # audiocraft's default: beyond 30 s a window makes 18 s of music after 12 s that are known

# transformers' GenerationConfig defaults; from version 5 on an unset value reads as None.
DEFAULTS = {"do_sample": False, "temperature": 1.0, "top_k": 50, "top_p": 1.0, "max_length": 20}
SAMPLING = ("temperature", "top_k", "top_p")
MOST_GUIDANCE = 1e6  # as COLDEST
PASSED_ON = (
    "do_sample",
    "guidance_scale",
    "max_length",
    "max_new_tokens",
    "duration",
    "extend_stride",
    "num_return_sequences",
    "return_dict_in_generate",
    "temperature",
    "top_k",
    "top_p",
)


@dataclass(frozen=True)
class Settings:
    """Checked settings of one call.

    Attributes:
        do_sample: sample, or take the most likely code.
        guidance: (scale at the start, scale at the end); (1.0, 1.0) for none.
        plan: how long the piece is, and in which windows it is made.
        temperature, top_k, top_p: as in transformers; top_k 0 and top_p 1 filter nothing.
        seeds: one per row.
        return_dict: whether codes and seeds are wanted besides the audio.
    """

    do_sample: bool
    guidance: tuple
    plan: Plan
    temperature: float
    top_k: int
    top_p: float
    seeds: tuple
    return_dict: bool = False

    @property
    def guided(self):
        """Whether null rows are needed."""
        return max(self.guidance) > 1


@dataclass(frozen=True)
class Sizes:
    """The numbers of a model that limit a call.

    Attributes:
        num_codebooks, audio_channels, vocab_size (int): of the decoder.
        positions (int): columns that the decoder has positions for.
        frame_rate (int): frames of codes per second of audio.
    """

    num_codebooks: int
    audio_channels: int
    vocab_size: int
    positions: int
    frame_rate: int

    @classmethod
    def of(cls, model):
        """Those of a `transformers.MusicgenConfig`; `Sizes` stay as they are."""
        if isinstance(model, cls):
            return model
        return cls.of_decoder(model.decoder, model.audio_encoder.frame_rate)

    @classmethod
    def of_decoder(cls, decoder, frame_rate):
        """Those of a `transformers.MusicgenDecoderConfig`, whose codes have `frame_rate` frames a second."""
        own = (getattr(decoder, name) for name in ("num_codebooks", "audio_channels", "vocab_size"))
        return cls(*own, decoder.max_position_embeddings, frame_rate)


def max_columns(model):
    """The most columns that can be predicted for a model: 30 s, or fewer if its positions end earlier.

    Args:
        model (transformers.MusicgenConfig | Sizes): the model.
    """
    sizes = Sizes.of(model)
    frames = TRAINED_SECONDS * sizes.frame_rate
    return min(columns_for(frames, sizes.num_codebooks, sizes.audio_channels), sizes.positions)


def window_frames(model):
    """The most frames in a window of a model."""
    sizes = Sizes.of(model)
    return max_columns(sizes) - columns_for(0, sizes.num_codebooks, sizes.audio_channels)


def check_prompt(model, frames):
    """Refuse an audio prompt that leaves no room in a window.

    Raises:
        InputError: saying how long it may be.
    """
    most = window_frames(model) - 1
    if frames > most:
        rate = Sizes.of(model).frame_rate
        raise InputError(
            f"the audio prompt has {frames / rate:.2f} s and this model takes at most {most / rate:.2f} s; cut it"
        )


def check(model, generation_config, arguments):
    """Refuse what can be seen before anything is computed: what is unknown, not supported, or without its partner.

    Args:
        model (transformers.MusicgenConfig | Sizes): the model.
        generation_config (transformers.GenerationConfig): its defaults.
        arguments (dict): what the call gave; None means not given.

    Raises:
        InputError: naming the argument or field.
    """
    given = {name for name, value in arguments.items() if value is not None}
    unknown = sorted(given - set(PASSED_ON) - {"num_beams", "use_cache"})
    if unknown:
        raise InputError(f"generate does not take {shown(unknown[0])}; it takes {', '.join(PASSED_ON)} and seed")
    check_generation_config(generation_config, Sizes.of(model).vocab_size)
    if arguments.get("num_beams") not in (None, 1) or (generation_config.num_beams or 1) != 1:
        raise InputError("num_beams must be 1: MusicGen is decoded greedily or by sampling, not by beam search")
    if "extend_stride" in given and "duration" not in given:
        raise InputError("extend_stride belongs to duration, which is not given; leave it out, or give the duration")


def sequences_per_prompt(generation_config, arguments):
    """num_return_sequences of a call."""
    asked = arguments.get("num_return_sequences")
    asked = generation_config.num_return_sequences if asked is None else asked
    return 1 if asked is None else whole_number("num_return_sequences", asked, 1)


def guidance_of(generation_config, arguments):
    """(scale at the start, scale at the end) of a call; 1.0 is no guidance."""
    asked = arguments.get("guidance_scale")
    asked = generation_config.guidance_scale if asked is None else asked
    if asked is None:
        return 1.0, 1.0
    ends = tuple(asked) if isinstance(asked, (list, tuple)) else (asked, asked)
    if len(ends) != 2:
        raise InputError(f"guidance_scale has {len(ends)} entries; expected a number, or (at the start, at the end)")
    return tuple(max(number("guidance_scale", end, 0, MOST_GUIDANCE), 1.0) for end in ends)


def resolve(model, generation_config, arguments, rows, prompt_frames, seed):
    """Merge and check.

    Args:
        model (transformers.MusicgenConfig | Sizes): the model.
        generation_config (transformers.GenerationConfig): its defaults.
        arguments (dict): what the call gave; None means not given.
        rows (int): number of pieces.
        prompt_frames (int): frames of audio prompt before the new ones.
        seed (int | Sequence[int] | None): see `resolve_seeds`.

    Returns:
        Settings

    Raises:
        InputError: naming the argument, what is wrong and what would be right.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    sizes = Sizes.of(model)
    check(sizes, generation_config, given)

    def value(name):
        stored = getattr(generation_config, name, None)
        return given.get(name, DEFAULTS.get(name) if stored is None else stored)

    top_k = value("top_k")
    if not value("do_sample"):
        _warn_of_sampling(given, generation_config)
    if "duration" in given:
        plan = _plan_of_duration(sizes, given, prompt_frames)
    else:
        length = _length(sizes, given, generation_config, value("max_length"), prompt_frames)
        plan = Plan(length, 0, 0, 0)  # one window, whatever frames it gives
    return Settings(
        do_sample=bool(value("do_sample")),
        guidance=guidance_of(generation_config, given),
        plan=plan,
        temperature=number("temperature", value("temperature"), COLDEST, HOTTEST),
        top_k=0 if top_k is None else whole_number("top_k", top_k, 0),
        top_p=number("top_p", value("top_p"), 0, 1),
        seeds=resolve_seeds(seed, rows),
        return_dict=bool(value("return_dict_in_generate")),
    )


def _warn_of_sampling(given, generation_config):
    """Say which settings of sampling change nothing, as transformers does."""
    asked = {name: given.get(name) for name in SAMPLING}
    if not generation_config.do_sample:
        asked = {name: getattr(generation_config, name) if asked[name] is None else asked[name] for name in SAMPLING}
    idle = [name for name, value in asked.items() if value is not None and value != DEFAULTS[name]]
    if idle:
        warnings.warn(f"without sampling {', '.join(idle)} change nothing; give do_sample=True", stacklevel=3)


def _plan_of_duration(sizes, given, prompt_frames):
    """Windows for so many seconds of new music."""
    both = next((name for name in ("max_new_tokens", "max_length") if name in given), None)
    if both:
        raise InputError(f"duration and {both} both say how long; give one of them")
    rate = sizes.frame_rate
    frames = prompt_frames + max(1, round(number("duration", given["duration"], 0, above=True) * rate))
    window = window_frames(sizes)
    stride = given.get("extend_stride")
    if stride is None:
        stride = STRIDE_SECONDS * window / (TRAINED_SECONDS * rate)  # the same part of a smaller model's window
    most = (window - 1) / rate
    step = round(number("extend_stride", stride, 0, most, above=True) * rate)
    first = columns_for(min(frames, window), sizes.num_codebooks, sizes.audio_channels)
    return Plan(1 + first, frames, window, window - max(step, 1))


def _length(sizes, given, generation_config, max_length, prompt_frames):
    """Columns in all; max_new_tokens wins over max_length, a call's over the config's."""
    known = 1 + prompt_frames
    new = given.get("max_new_tokens")
    if new is None and "max_length" not in given:
        new = generation_config.max_new_tokens
    name = "max_length" if new is None else "max_new_tokens"
    length = (
        whole_number("max_length", max_length, 2) if new is None else known + whole_number("max_new_tokens", new, 1)
    )
    limit = max_columns(sizes)
    if length - 1 > limit:
        raise InputError(
            f"{name} asks for {length - 1} columns of codes; this model was trained for at most {limit} "
            f"({limit / sizes.frame_rate:.0f} s); duration goes beyond, window by window"
        )
    if length <= known:
        raise InputError(f"{name} leaves nothing to generate after a prompt of {prompt_frames} frames; ask for more")
    return length
