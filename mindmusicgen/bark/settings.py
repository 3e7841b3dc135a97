"""What a call asks of each stage: its arguments over generation_config.json over transformers' defaults."""

import math
from dataclasses import dataclass, fields

from ..arguments import number, resolve_seeds
from ..errors import InputError, shown, whole_number
from ..generation.sampling import COLDEST, HOTTEST
from ..habits import nearest

PREFIXES = {"semantic_": "semantic_config", "coarse_": "coarse_acoustics_config", "fine_": "fine_acoustics_config"}
SAMPLING = ("do_sample", "temperature", "top_k", "top_p")
OF_STAGE = {  # what a call may change
    "semantic_": (*SAMPLING, "max_new_tokens", "min_eos_p"),
    "coarse_": (*SAMPLING, "max_coarse_history", "sliding_window_len"),
    "fine_": ("temperature",),
}
LONGEST = 768  # semantic tokens
LEAST_HISTORY, MOST_HISTORY, MOST_WITH_WINDOW = 60, 630, 768  # of the coarse stage: suno's own limits


@dataclass(frozen=True)
class Sampling:
    """How a causal stage chooses.

    Attributes:
        do_sample: sample, or take the most probable id.
        temperature, top_k, top_p: as in transformers; top_k 0 and top_p 1 filter nothing.
    """

    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0


@dataclass(frozen=True)
class SemanticSettings(Sampling):
    """Of the semantic stage; ids and rates are the checkpoint's."""

    max_new_tokens: int = LONGEST
    min_eos_p: float = None
    eos_token_id: int = 10_000
    text_encoding_offset: int = 10_048
    text_pad_token: int = 129_595
    semantic_infer_token: int = 129_599
    semantic_vocab_size: int = 10_000
    max_input_semantic_length: int = 256
    semantic_rate_hz: float = 49.9


@dataclass(frozen=True)
class CoarseSettings(Sampling):
    """Of the coarse stage."""

    coarse_semantic_pad_token: int = 12_048
    coarse_infer_token: int = 12_050
    coarse_rate_hz: float = 75
    n_coarse_codebooks: int = 2
    max_coarse_input_length: int = 256
    max_coarse_history: int = MOST_HISTORY
    sliding_window_len: int = 60


@dataclass(frozen=True)
class FineSettings:
    """Of the fine stage; a temperature of 1 takes the most probable code."""

    temperature: float = 1.0
    max_fine_history_length: int = 512
    max_fine_input_length: int = 1024
    n_fine_codebooks: int = 8


@dataclass(frozen=True)
class Settings:
    """Checked settings of one call.

    Attributes:
        semantic, coarse, fine: of the stages.
        codebook_size: codes in a codebook.
        sample_rate: samples per second.
        seeds: one per row.
    """

    semantic: SemanticSettings
    coarse: CoarseSettings
    fine: FineSettings
    codebook_size: int
    sample_rate: int
    seeds: tuple

    @property
    def ratio(self):
        """Coarse codes, of both codebooks together, for one semantic token."""
        return self.coarse.coarse_rate_hz / self.semantic.semantic_rate_hz * self.coarse.n_coarse_codebooks

    def frames(self, tokens):
        """Frames of audio for so many semantic tokens."""
        return math.floor(tokens * self.ratio / self.coarse.n_coarse_codebooks)


def resolve(config, generation_config, arguments, rows, seed):
    """Merge and check.

    Args:
        config (transformers.BarkConfig): of the model.
        generation_config (transformers.GenerationConfig): its defaults.
        arguments (dict): what the call gave; None means not given.
        rows (int): number of pieces.
        seed (int | Sequence[int] | None): see `arguments.resolve_seeds`.

    Returns:
        Settings

    Raises:
        InputError: naming the argument, what is wrong and what would be right.
    """
    given = sort_arguments(arguments)
    history = given["coarse_"].get("max_coarse_history", LEAST_HISTORY)
    if not LEAST_HISTORY <= whole_number("max_coarse_history", history, 1) <= MOST_HISTORY:
        raise InputError(f"max_coarse_history is {history}; expected {LEAST_HISTORY} to {MOST_HISTORY}")
    semantic = _stage(SemanticSettings, generation_config, "semantic_", given)
    coarse = _stage(CoarseSettings, generation_config, "coarse_", given)
    fine = _stage(FineSettings, generation_config, "fine_", given)
    made = Settings(
        semantic,
        coarse,
        fine,
        whole_number("codebook_size", _of(generation_config, "codebook_size", 1024), 1),
        whole_number("sample_rate", _of(generation_config, "sample_rate", config.codec_config.sampling_rate), 1),
        resolve_seeds(seed, rows),
    )
    check_semantic(semantic, config.semantic_config)
    check_coarse(made, config.coarse_acoustics_config)
    check_fine(made, config)
    return made


def tokens_of(config, generation_config, seconds):
    """How many semantic tokens so many seconds take.

    Args:
        config (transformers.BarkConfig): of the model.
        generation_config (transformers.GenerationConfig): its defaults.
        seconds (float): of speech.

    Raises:
        InputError: for more than a piece may have, or nothing.
    """
    rate = resolve(config, generation_config, {}, 1, 0).semantic.semantic_rate_hz
    most = LONGEST / rate
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not 0 < seconds <= most:
        raise InputError(
            f"duration is {shown(seconds)}; expected at most {most:.0f} s, or none: a piece of Bark's ends by itself"
        )
    return max(int(seconds * rate), 1)


def sort_arguments(arguments):
    """Which argument goes to which stage: {prefix: {name: value}}.

    Raises:
        InputError: for one that no stage takes.
    """
    given = {prefix: {} for prefix in PREFIXES}
    named = {name: value for name, value in arguments.items() if value is not None}
    if named.pop("num_beams", 1) != 1:
        raise InputError("num_beams must be 1: Bark's stages choose greedily or by sampling, not by beam search")
    for name, value in named.items():  # those without a prefix first: the others win
        if any(name in known for known in OF_STAGE.values()):
            for prefix, known in OF_STAGE.items():
                if name in known:
                    given[prefix][name] = value
    for name, value in named.items():
        prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), "")
        if prefix and name[len(prefix) :] in OF_STAGE[prefix]:
            given[prefix][name[len(prefix) :]] = value
        elif name == "coarse_max_new_tokens" or name == "fine_max_new_tokens":
            raise InputError(f"{name} is not taken: the length follows from the semantic tokens; give max_new_tokens")
        elif prefix == "fine_" and name[len(prefix) :] in SAMPLING:
            continue  # transformers takes no notice of them either: the fine stage knows a temperature only
        elif not any(name in known for known in OF_STAGE.values()):
            known = [*OF_STAGE["semantic_"], *(p + one for p, names in OF_STAGE.items() for one in names)]
            raise InputError(f"generate does not take {shown(name)}{nearest(name, known)}")
    return given


def _of(generation_config, name, default):
    value = getattr(generation_config, name, None)
    return default if value is None else value


def stored(generation_config, prefix):
    """The part of a generation config that is about a stage: dict.

    Args:
        generation_config (transformers.GenerationConfig): of a model.
        prefix (str): of the stage, one of `PREFIXES`.

    Raises:
        InputError: if that part is no object.
    """
    found = _of(generation_config, PREFIXES[prefix], {})
    found = found.to_dict() if hasattr(found, "to_dict") else found
    if not isinstance(found, dict):
        raise InputError(f"generation config sets {PREFIXES[prefix]} to {shown(found)}; expected an object")
    return found


def _stage(kind, generation_config, prefix, given):
    """The settings of a stage from the generation config's part, or defaults, with what the call changes."""
    own = stored(generation_config, prefix)
    own = {field.name: own.get(field.name) for field in fields(kind)}
    made = {name: value for name, value in own.items() if value is not None} | given[prefix]
    for field in fields(kind):
        if type(field.default) is int and field.name in made:
            whole_number(field.name, made[field.name], 0)
    return kind(**made)


def check_sampling(chosen, prefix):
    """Refuse a temperature, top_k or top_p that there is not."""
    if not isinstance(chosen.do_sample, bool):
        raise InputError(f"{prefix}do_sample is {shown(chosen.do_sample)}; expected True or False")
    number(f"{prefix}temperature", chosen.temperature, COLDEST, HOTTEST)
    whole_number(f"{prefix}top_k", chosen.top_k, 0)
    number(f"{prefix}top_p", chosen.top_p, 0, 1)


def check_semantic(chosen, config):
    """Refuse settings of the semantic stage that its network has no room for."""
    check_sampling(chosen, "semantic_")
    if whole_number("max_new_tokens", chosen.max_new_tokens, 1) > LONGEST:
        raise InputError(
            f"max_new_tokens is {chosen.max_new_tokens}; expected at most {LONGEST}, about 15 s: speak longer texts "
            "sentence by sentence"
        )
    if chosen.min_eos_p is not None:
        number("min_eos_p", chosen.min_eos_p, 0, 1, above=True)
    ids = ("eos_token_id", "text_encoding_offset", "text_pad_token", "semantic_infer_token", "semantic_vocab_size")
    for name in ids:
        value = whole_number(name, getattr(chosen, name), 0)
        limit = config.input_vocab_size
        if value >= limit:
            raise InputError(f"generation config sets {name} to {value}; expected less than input_vocab_size {limit}")
    if chosen.eos_token_id != chosen.semantic_vocab_size or chosen.eos_token_id >= config.output_vocab_size:
        raise InputError(
            f"generation config ends with id {chosen.eos_token_id}; expected semantic_vocab_size "
            f"{chosen.semantic_vocab_size}, the id behind the tokens, below {config.output_vocab_size}"
        )
    length = whole_number("max_input_semantic_length", chosen.max_input_semantic_length, 1) + 1
    if length + chosen.max_new_tokens - 1 > config.block_size:
        raise InputError(
            f"max_new_tokens is {chosen.max_new_tokens}; after {length} positions of text this model has room for "
            f"{config.block_size - length + 1}"
        )
    number("semantic_rate_hz", chosen.semantic_rate_hz, 0, above=True)


def check_coarse(settings, config):
    """Refuse settings of the coarse stage that its network has no room for."""
    chosen, size = settings.coarse, settings.codebook_size
    check_sampling(chosen, "coarse_")
    number("coarse_rate_hz", chosen.coarse_rate_hz, 0, above=True)
    if chosen.n_coarse_codebooks != 2:
        raise InputError(f"n_coarse_codebooks is {shown(chosen.n_coarse_codebooks)}; expected 2")
    first = settings.semantic.semantic_vocab_size
    last = max(first + 2 * size, chosen.coarse_semantic_pad_token + 1, chosen.coarse_infer_token + 1)
    if last > config.input_vocab_size or first + 2 * size > config.output_vocab_size:
        raise InputError(f"generation config has coarse ids up to {last - 1}; the model has {config.input_vocab_size}")
    history, window = (
        whole_number(name, getattr(chosen, name), 1) for name in ("max_coarse_history", "sliding_window_len")
    )
    if settings.ratio > history:
        raise InputError(f"max_coarse_history is {history}; expected at least {math.ceil(settings.ratio)}")
    room = min(MOST_WITH_WINDOW, config.block_size - chosen.max_coarse_input_length)
    if history + window > room:
        raise InputError(
            f"sliding_window_len is {window} and max_coarse_history {history}; expected at most {room} together"
        )


def check_fine(settings, config):
    """Refuse settings of the fine stage that its network, or the codec, has no room for."""
    chosen, network, codec = settings.fine, config.fine_acoustics_config, config.codec_config
    if chosen.temperature is not None:
        number("fine_temperature", chosen.temperature, COLDEST, HOTTEST)
    length, history = chosen.max_fine_input_length, chosen.max_fine_history_length
    if not 0 < history < length <= network.block_size:
        raise InputError(
            f"max_fine_history_length is {history} and max_fine_input_length {length}; expected the first below the "
            f"second, and that at most {network.block_size}"
        )
    if settings.codebook_size >= network.input_vocab_size or settings.codebook_size > codec.codebook_size:
        raise InputError(
            f"codebook_size is {settings.codebook_size}; expected less than {network.input_vocab_size}, and at most "
            f"the codec's {codec.codebook_size}"
        )
    books = chosen.n_fine_codebooks
    if books != network.n_codes_total or books > codec.num_quantizers or network.n_codes_given > 2:
        raise InputError(
            f"n_fine_codebooks is {books}; expected {network.n_codes_total}, and at most the codec's "
            f"{codec.num_quantizers}"
        )
