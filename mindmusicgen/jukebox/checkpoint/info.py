"""What a Jukebox is, and what it will need: read from its config and, if it has weights, its tensors' headers."""

import contextlib
import os

from ...checkpoint.source import OPENAI_LAYOUT, as_folder, files_in
from ...errors import InputError
from ...runtime import device as devices
from ...runtime import memory_limits
from ...runtime.telling import printable
from ..decode_loop import step_bytes
from ..estimates import layer_products, level_work, step_products
from ..tokenizer import JukeboxTokenizer
from .folder import load_config, open_folder
from .openai_files import published

PUBLISHED = {"openai/jukebox-1b-lyrics": 2048, "openai/jukebox-5b-lyrics": 4800}  # hub id: width of the top prior
NAMES = ("top", "middle", "bottom")
RUNTIME_BYTES = 800e6  # MindSpore and Python themselves, as for MusicGen
# Bytes that steps read, and operations of prefills, a second: two cores with AVX-512.
SPEED = {"float32": (30e9, 100e9), "int8": (30e9, 100e9)}
STEP = 4e-4  # seconds of a step beside its weights
WEIGHT_BYTES = {"float32": 4, "int8": 1.1}
LONGEST = 600.0  # seconds that a plan is made for


def published_config(name):
    """The config of a published model, by its hub id."""
    return published(PUBLISHED[name])


def is_published(name):
    """Whether the sizes of a model on the hub are known here."""
    return name in PUBLISHED


def prior_parameters(whole, level):
    """How many numbers a prior has: transformer, tables, and what tells it of labels and of the level above.

    Args:
        whole (JukeboxConfig): the model's config.
        level (int): the prior's number.
    """
    config = whole.prior_configs[level]
    width, ids = config.hidden_size, step_products(config) - layer_products(config)
    genres, artists = config.metadata_dims
    count = _layers(config) + ids * (2 if config.merged_decoder else 1) + config.positions * width
    count += (genres + artists) * width
    if level == 0:
        count += 3 * config.timing_dims * width
    else:
        count += _conditioner(config, config.res_downs_t[whole.nb_priors - level])
    if config.reads_lyrics:
        own = config.encoder_config
        count += _layers(own) + (config.lyric_vocab_size + config.nb_relevant_lyric_tokens + 1) * own.hidden_size
        count += (own.hidden_size + 3) * width + config.lyric_vocab_size * width
    return int(count)


def _layers(config):
    """Matrices, biases and norms of the layers; those that look at the lyrics' states have as many."""
    attention, width = config.attention_width, config.hidden_size
    besides = 3 * attention + width + int(config.mlp_multiplier * width) + width + 4 * width
    return layer_products(config) + config.num_layers * besides


def _conditioner(config, doublings):
    """The network that reads the codes above: a table, convolutions, and for each doubling blocks of residuals."""
    inner, width = config.res_conv_width, config.hidden_size
    hidden = config.res_convolution_multiplier * inner
    blocks = doublings * config.res_conv_depth * (4 * inner * hidden + hidden + inner)
    wider = (doublings - 1) * (4 * inner + 1) * inner + (4 * inner + 1) * width
    return config.music_vocab_size * width + (3 * width + 1) * inner + blocks + wider + 2 * width


def memory(config, batch=1, numbers="float32"):
    """Bytes a run needs at its peak, by part: one prior is in memory at a time.

    Args:
        config (JukeboxConfig): the model's config.
        batch (int): songs at a time.
        numbers (str): float32 or int8.
    """
    largest = max(range(config.nb_priors), key=lambda level: prior_parameters(config, level))
    prior = config.prior_configs[largest]
    weight, number = {"float32": (4, 4), "int8": (1.2, 2)}[numbers]  # tables and scales beside 8 bits
    weights = weight * prior_parameters(config, largest)
    return {"weights": weights, "caches": step_bytes(prior, batch, number), "runtime": RUNTIME_BYTES}


def time_for(config, length, batch=1, numbers="float32"):
    """Seconds that each level takes at about SPEED: a step reads the weights once, known codes are computed.

    Args:
        config (JukeboxConfig): the model's config.
        length (int): samples of the song.
        batch (int): songs at a time.
        numbers (str): float32 or int8.
    """
    reading, computing = SPEED[numbers]
    taken = []
    for level, prior in enumerate(config.prior_configs):
        wanted = length // config.raws[level]
        hop = max(int(config.hop_fraction[level] * prior.n_ctx), 1)
        steps, known = level_work(prior, wanted, 0, hop)
        size, each = step_products(prior), 2 * layer_products(prior) * batch / computing
        taken.append(steps * STEP + steps * max(WEIGHT_BYTES[numbers] * size / reading, each) + known * each)
    return taken


@contextlib.contextmanager
def enough_memory(model, batch):
    """Context that says what is needed, when memory is too small for what is done in it.

    Args:
        model (JukeboxModel): opened.
        batch (int): songs at a time.

    Raises:
        InputError: in place of MindSpore's or Python's own exception.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not devices.is_memory_error(error):
            raise
        needed = sum(memory(model.config, batch).values())
        raise InputError(
            f"out of memory with {batch} {'song' if batch == 1 else 'songs'}, which take about {needed / 1e9:.1f} GB; "
            "make fewer at a time with --batch-size, or choose int8"
        ) from error


def _opened(folder, where):
    """The config, and two remarks: the layout, and how weights are stored (or None)."""
    if folder in PUBLISHED and not os.path.isdir(folder):
        return published_config(folder), "as published, not looked at", None
    folder = as_folder(folder)
    layout = "OpenAI's own files" if folder.layout == OPENAI_LAYOUT else "Hugging Face layout"
    if folder.layout != OPENAI_LAYOUT and not any(one.endswith((".safetensors", ".bin")) for one in files_in(folder)):
        return load_config(folder), "a config without weights", None
    config, tensors = open_folder(folder)
    kinds = sorted({str(tensor.dtype) for tensor in tensors.values() if str(tensor.dtype) != "bool"})
    return config, layout, f"{', '.join(kinds)}, {len(tensors)} tensors"


def _describe_prior(config, level, count):
    """A line on one prior."""
    kinds = config.kinds
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    name = NAMES[level] if level < len(NAMES) else str(level)
    return (
        f"  prior {level}       {name}: {config.num_layers} layers of {config.hidden_size}, {config.n_heads} "
        f"{'head' if config.n_heads == 1 else 'heads'}, "
        f"windows of {config.n_ctx} codes, attention {counts}, {count / 1e6:.1f} M parameters"
    )


def describe(folder, seconds=10.0, batch=1, with_table=False, **where):
    """A text that says what a model is.

    Args:
        folder (str): a model folder, with or without weights, or the hub id of a published model.
        seconds (float): length of the song to plan for.
        batch (int): songs at a time to plan for.
        with_table (bool): add the memory for other numbers and batches.
        where: not used: such a folder names nothing outside.

    Raises:
        InputError: if the folder is not a model, or the plan makes no sense.
    """
    config, layout, stored = _opened(folder, where)
    rate, raws = config.sampling_rate, config.raws
    if not raws[0] / rate <= seconds <= LONGEST or batch < 1:
        raise InputError(
            f"cannot plan for {seconds} s and {batch} songs; expected up to {LONGEST:g} s, and at least 1 song"
        )
    counts = [prior_parameters(config, level) for level in range(config.nb_priors)]
    genres, artists = config.prior_configs[0].metadata_dims
    rates = ", ".join(f"{rate / raw:.5g}" for raw in raws)
    lines = [
        f"{printable(folder)}: Jukebox, songs with words, {rate} Hz mono, {layout}",
        *(_describe_prior(prior, i, counts[i]) for i, prior in enumerate(config.prior_configs)),
        f"  levels        {rates} codes a second, of {config.vqvae_config.nb_discrete_codes}",
        f"  names         {artists:,} artists, {genres:,} genres; info MODEL --artist PART finds them",
        f"  song          {config.min_duration:g} to {config.max_duration:g} s, of which a piece may be a part",
        *([f"  stored as     {stored}"] if stored else []),
    ]
    lines += _plan(config, seconds, batch)
    if with_table:
        lines.append("  GB at the peak, computed" + "".join(f"{f'batch {count}':>10}" for count in (1, 2, 4, 8, 16)))
        for numbers in SPEED:
            row = (sum(memory(config, count, numbers).values()) for count in (1, 2, 4, 8, 16))
            lines.append(f"    {numbers:<22}" + "".join(f"{size / 1e9:>10.1f}" for size in row))
    return "\n".join(lines)


def span(seconds):
    """Seconds as a text: 40 s, 12 min, 4.9 h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _plan(config, seconds, batch):
    """Lines on what a song takes."""
    length = int(seconds * config.sampling_rate)
    parts = memory(config, batch)
    said = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in parts.items())
    lines = [
        f"  memory        {sum(parts.values()) / 1e9:.2f} GB for batch {batch}, float32, one prior at a time "
        f"(estimate: {said})",
        f"  work          {', '.join(str(length // raw) for raw in config.raws)} steps for {seconds:.3g} s",
    ]
    for numbers in SPEED:
        taken = time_for(config, length, batch, numbers)
        each = " + ".join(map(span, taken))
        lines.append(f"  time          about {span(sum(taken))} in {numbers} ({each}), on two CPU cores with AVX-512")
    room, by = memory_limits.room()
    if room:
        lines.append(f"  room here     {room / 1e9:.2f} GB, as {by} leaves")
    return lines


def search(folder, **words):
    """Names that hold all of some words, as `mindmusicgen info MODEL --artist PART` prints them.

    Args:
        folder (ModelFolder): with the lists of names.
        **words (str): parts of a name, under artist or genre; None for those that are not asked for.

    Returns:
        list[str]: lines.

    Raises:
        InputError: if the folder has no lists.
    """
    tokenizer, lines = JukeboxTokenizer.from_pretrained(folder), []
    for what, part in words.items():
        if part is not None:
            found = tokenizer.search(part, f"{what}s", len(tokenizer.artists_encoder))
            lines += found or [f"no {what} has {printable(part)!r} in its name"]
    return lines
