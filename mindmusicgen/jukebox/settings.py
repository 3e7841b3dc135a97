"""What a call asks for, checked before any work and put together once."""

import math
from dataclasses import dataclass

from ..arguments import number, resolve_seeds
from ..errors import InputError, shown, whole_number
from ..generation.sampling import COLDEST, HOTTEST
from .labels import Labels
from .sampling import windows
from .vqvae import check_codes

LAST_TEMPERATURE = 0.99  # of the finest prior, whatever is asked for the others
DEFAULTS = {
    "sampling_temperature": 0.98,
    "lower_batch_size": 16,
    "max_batch_size": 16,
    "sample_length_in_seconds": 24,
    "sample_length": None,
    "sample_tokens": None,
    "offset": 0,
    "total_length_in_seconds": None,
    "hop_fraction": None,
    "top_k": 0,
    "top_p": 0.0,
    "seed": None,
}


@dataclass
class Request:
    """A call, checked.

    Attributes:
        labels (list[Labels]): of each prior.
        codes (list[numpy.ndarray]): what is there of each, [samples, n] int32, the top prior's first.
        levels (tuple[int]): priors that are to sample, in this order.
        wanted (list[int]): codes that each is to have in the end.
        total_length, offset (int): samples of the song, and before this piece of it.
        hops (list[int]): codes by which each window moves.
        temperatures (list[float]), top_k (int), top_p (float): how codes are chosen.
        seeds (tuple[int]): of each sample.
        batches (list[int]): samples at once.
        length (int): samples of the piece.
    """

    labels: list
    codes: list
    levels: tuple
    wanted: list
    total_length: int
    offset: int
    hops: list
    temperatures: list
    top_k: int
    top_p: float
    seeds: tuple
    batches: list
    length: int


def resolve(config, raws, music_tokens, labels, sample_levels, asked):
    """The request of a call.

    Args:
        config (JukeboxConfig): of the model.
        raws (list[int]): samples of a code of each prior.
        music_tokens (list): codes that are there, the top prior's first.
        labels (list): of each prior, as the tokenizer gives.
        sample_levels (Sequence[int]): priors that are to sample; None: all.
        asked (dict): further arguments, of `DEFAULTS`.

    Returns:
        Request

    Raises:
        InputError: naming the argument, what is wrong and what would be right.
    """
    given, count = DEFAULTS | asked, config.nb_priors
    codes = given_codes(config, music_tokens, raws)
    samples = len(codes[0])
    levels = _levels(sample_levels, count)
    length = _length(config, given, raws[0])
    wanted = [length // raw for raw in raws]
    if given["sample_tokens"] is not None:
        most = whole_number("sample_tokens", given["sample_tokens"], 1)
        wanted = [min(n, have.shape[1] + most) for n, have in zip(wanted, codes, strict=True)]
    _check_given(codes, levels, wanted, raws)
    offset = whole_number("offset", given["offset"], 0)
    total = _total(config, given["total_length_in_seconds"], length, offset, 0 in levels)
    if not isinstance(labels, (list, tuple)) or len(labels) != count:
        raise InputError(
            f"labels are {shown(labels)}; expected a list of {count}, one for each prior, as the tokenizer gives"
        )
    made = [
        Labels(prior, rows, samples, level, raws[level])
        for level, (prior, rows) in enumerate(zip(config.prior_configs, labels, strict=True))
    ]
    seeds = resolve_seeds(given["seed"], samples)
    batches = [whole_number(name, given[name], 1) for name in ("max_batch_size", "lower_batch_size")]
    request = Request(
        made,
        codes,
        levels,
        wanted,
        total,
        offset,
        _hops(config, given["hop_fraction"]),
        *_choosing(given, count),
        seeds,
        [batches[0]] + [batches[1]] * (count - 1),
        length,
    )
    if 0 in levels:  # now, and not after hours: each window must lie within the longest song
        for start, _ in windows(request, 0, config.prior_configs[0].n_ctx, codes[0].shape[1]):
            made[0].window(start, total, offset)
    return request


def given_codes(config, music_tokens, raws):
    """The codes of a call as arrays, the top prior's first.

    Raises:
        InputError: if levels are missing, rows differ, codes do not exist, or lengths do not fit each other.
    """
    count, end = config.nb_priors, config.vqvae_config.nb_discrete_codes
    if not isinstance(music_tokens, (list, tuple)) or len(music_tokens) != count:
        raise InputError(
            f"music_tokens is {shown(music_tokens)}; expected a list of {count} arrays, the top level first"
        )
    codes = [check_codes(one, f"music_tokens[{i}]", end) for i, one in enumerate(music_tokens)]
    samples = {len(one) for one in codes}
    if len(samples) > 1 or 0 in samples:
        raise InputError(
            f"music_tokens have {[len(one) for one in codes]} rows; expected one for each sample, in all levels"
        )
    for level in range(1, count):
        above, own, ratio = codes[level - 1].shape[1], codes[level].shape[1], raws[level - 1] // raws[level]
        if own and own != above * ratio:
            raise InputError(
                f"music_tokens[{level}] has {own} codes for {above} above; expected {ratio} for each, or none"
            )
    return codes


def _choosing(given, count):
    """Temperatures of all priors, top_k and top_p."""
    temperature = number("sampling_temperature", given["sampling_temperature"], COLDEST, HOTTEST)
    temperatures = [temperature] * (count - 1) + [LAST_TEMPERATURE if count > 1 else temperature]
    top_k = whole_number("top_k", given["top_k"], 0)
    top_p = number("top_p", given["top_p"], 0, 1)
    if top_k and top_p:
        raise InputError(f"top_k is {top_k} and top_p is {top_p:g}; give one of them")
    return temperatures, top_k, top_p


def _levels(levels, count):
    levels = range(count) if levels is None else levels
    levels = list(levels) if isinstance(levels, (list, tuple, range)) else [levels]
    if not levels or any(isinstance(n, bool) or not isinstance(n, int) or not 0 <= n < count for n in levels):
        raise InputError(f"sample_levels is {shown(levels)}; expected some of 0 to {count - 1}, 0 is the top")
    return tuple(sorted(set(levels)))


def _length(config, given, raw):
    """Samples of the piece: whole codes of the top level."""
    rate = config.sampling_rate
    if given["sample_length"] is None:
        seconds = number("sample_length_in_seconds", given["sample_length_in_seconds"], 0, above=True)
        length, asked = int(seconds * rate), f"sample_length_in_seconds {seconds:g}"
    else:
        length = whole_number("sample_length", given["sample_length"], 1)
        asked = f"sample_length {length}"
    if length < raw:
        raise InputError(f"{asked} is less than one code of the top level; expected at least {raw} samples")
    if length > config.max_duration * rate:
        raise InputError(f"{asked} is more than max_duration, {config.max_duration:g} s; expected at most that")
    return length // raw * raw


def _total(config, seconds, length, offset, timed):
    """Samples of the whole song."""
    rate, least = config.sampling_rate, math.ceil(config.min_duration * config.sampling_rate)
    if seconds is None:
        total = max(offset + length, least)
    else:
        total = round(number("total_length_in_seconds", seconds, 0, above=True) * rate)
    if total < length:
        raise InputError(f"total_length_in_seconds {total / rate:g} is less than the sample, {length / rate:g} s")
    if offset >= total:
        raise InputError(f"offset {offset} is not within the song of {total} samples; expected 0 to {total - 1}")
    if timed and not least <= total < config.max_duration * rate:
        raise InputError(
            f"a song of {total / rate:g} s is outside what the model knows; expected total_length_in_seconds from "
            f"{config.min_duration:g} up to, and less than, {config.max_duration:g}"
        )
    return total


def _hops(config, fractions):
    fractions = config.hop_fraction if fractions is None else fractions
    if isinstance(fractions, (int, float)) and not isinstance(fractions, bool):
        fractions = [fractions] * config.nb_priors
    if not isinstance(fractions, (list, tuple)) or len(fractions) < config.nb_priors:
        raise InputError(f"hop_fraction is {shown(fractions)}; expected a number for each of {config.nb_priors} priors")
    hops = [number("hop_fraction", one, 0, 1, above=True) for one in fractions]
    return [max(int(hop * prior.n_ctx), 1) for hop, prior in zip(hops, config.prior_configs, strict=False)]


def _check_given(codes, levels, wanted, raws):
    """Codes that are there must fit into the piece, and those above a level that is to sample must be there."""
    for level, (have, most) in enumerate(zip(codes, wanted, strict=True)):
        if have.shape[1] > most and level in levels:
            raise InputError(
                f"music_tokens[{level}], or the prompt, has {have.shape[1]} codes and the sample {most}; ask for a "
                "longer sample, which includes the prompt"
            )
    for level in levels:
        if level and level - 1 not in levels:
            ratio = raws[level - 1] // raws[level]
            above = codes[level - 1].shape[1]
            if above * ratio < wanted[level]:
                raise InputError(
                    f"prior {level} is to make {wanted[level]} codes from {above} of the level above; expected at "
                    f"least {-(-wanted[level] // ratio)}: sample level {level - 1} as well, or ask for a shorter sample"
                )
