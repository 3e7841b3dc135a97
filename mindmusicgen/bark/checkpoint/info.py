"""What a Bark is, and what it will need: read from its config and, if it has weights, its tensors' headers."""

import contextlib
import math
import os

from ...checkpoint.source import as_folder, files_in
from ...configs import EncodecConfig
from ...errors import InputError
from ...models.encodec import parameter_count as codec_parameters
from ...ops import native
from ...runtime import device as devices
from ...runtime import memory_limits
from ...runtime.telling import printable
from .. import settings
from ..config import BarkCoarseConfig, BarkConfig, BarkFineConfig, BarkSemanticConfig, parameters
from ..stages import fine_windows
from .folder import default_generation_config, load_config, load_generation_config, open_folder

PUBLISHED = {"suno/bark-small": (12, 12, 768), "suno/bark": (24, 16, 1024)}  # hub id: layers, heads, width
TABLES = {  # ids in and out of each stage of those
    "semantic_config": (BarkSemanticConfig, 129_600, 10_048),
    "coarse_acoustics_config": (BarkCoarseConfig, 12_096, 12_096),
    "fine_acoustics_config": (BarkFineConfig, 1056, 1056),
}
NAMES = {"semantic": "semantic", "coarse_acoustics": "coarse", "fine_acoustics": "fine"}
INT8_BYTES = 1.1  # of a weight of a layer: with its scales
RUNTIME_BYTES = 800e6  # MindSpore and Python themselves, as for MusicGen
ALIVE = 12  # widest activations of a fine pass alive at once
# Bytes that steps read, and operations of prefills and fine passes, a second: two cores with AVX-512, measured on the
# sizes of bark-small by scripts/benchmark/bark.py.
SPEED = {"float32": (22e9, 75e9), "int8": (20e9, 120e9)}
WITH_TILES = {"float32": 140e9, "int8": 150e9}  # the second, where the CPU has a tile unit


def published_config(name):
    """The config of a published model, by its hub id.

    Returns:
        BarkConfig
    """
    layers, heads, width = PUBLISHED[name]
    sizes = {"num_layers": layers, "num_heads": heads, "hidden_size": width, "bias": False}
    stages = [kind(input_vocab_size=ids, output_vocab_size=out, **sizes) for kind, ids, out in TABLES.values()]
    return BarkConfig.from_sub_model_configs(*stages, EncodecConfig())


def is_published(name):
    """Whether the sizes of a model on the hub are known here."""
    return name in PUBLISHED


def parameter_counts(config):
    """Parameters of each network of a config: dict of name to count."""
    counts = {name: parameters(getattr(config, f"{stage}_config")) for stage, name in NAMES.items()}
    return counts | {"codec": codec_parameters(config.codec_config)}


def memory(config, batch=1, numbers="float32"):
    """Bytes a run needs at its peak, by part. All graphs have fixed sizes: the length of a text changes nothing.

    Args:
        config (BarkConfig): the model's config.
        batch (int): pieces at a time.
        numbers (str): float32, float16, bfloat16, or int8, which the layers of the two causal stages take.
    """
    counts, size = parameter_counts(config), 4 if numbers in ("float32", "int8") else 2
    layers = {
        stage: 12 * getattr(config, f"{stage}_config").num_layers * getattr(config, f"{stage}_config").hidden_size ** 2
        for stage in ("semantic", "coarse_acoustics")
    }
    weights = size * (sum(counts.values()) - counts["codec"]) + 4 * counts["codec"]
    if numbers == "int8":
        weights -= (4 - INT8_BYTES) * sum(layers.values())
    stages = (config.semantic_config, config.coarse_acoustics_config)
    cache = sum(2 * batch * one.num_layers * one.block_size * one.hidden_size for one in stages)
    fine = config.fine_acoustics_config
    return {
        "weights": weights,
        "KV caches": (size if numbers != "int8" else 1.1) * cache,
        "activations": size * ALIVE * fine.block_size * 4 * fine.hidden_size,
        "runtime": RUNTIME_BYTES,
    }


def work(config, defaults, seconds):
    """What a piece takes: semantic steps, coarse steps, coarse prefills, fine passes.

    Args:
        config (BarkConfig): the model's config.
        defaults (transformers.GenerationConfig): its settings.
        seconds (float): of speech.
    """
    chosen = settings.resolve(config, defaults, {}, 1, 0)
    tokens = min(round(seconds * chosen.semantic.semantic_rate_hz), settings.LONGEST)
    frames = chosen.frames(tokens)
    passes = len(fine_windows(frames, 0, chosen)) * (chosen.fine.n_fine_codebooks - 2)
    window = chosen.coarse.sliding_window_len
    going_on = chosen.coarse.max_coarse_history // window + 1  # windows in which all that was made is still seen
    prefills = 1 + max(math.ceil(2 * frames / window) - going_on, 0)
    return tokens, 2 * frames, prefills, passes


def time_for(config, defaults, seconds, numbers):
    """Seconds that a piece takes at about SPEED: each step reads the weights once, prefills and fine passes compute."""
    steps, coarse, prefills, passes = work(config, defaults, seconds)
    stages = config.semantic_config, config.coarse_acoustics_config, config.fine_acoustics_config
    layers = [12 * one.num_layers * one.hidden_size**2 for one in stages]
    size = INT8_BYTES if numbers == "int8" else 4
    heads = (config.semantic_config.output_vocab_size, 1024)
    reading = sum(
        count * (size * matrices + 4 * ids * one.hidden_size) / SPEED[numbers][0]
        for count, matrices, ids, one in zip((steps, coarse), layers, heads, stages, strict=False)
    )
    computing = 2 * (257 * layers[0] + 887 * prefills * layers[1] + 1024 * passes * layers[2])
    tiles = native.linear_rows() == native.ANY_ROWS
    return reading + computing / (WITH_TILES[numbers] if tiles else SPEED[numbers][1])


@contextlib.contextmanager
def enough_memory(model, batch):
    """Context that says what is needed, when memory is too small for what is done in it.

    Args:
        model (BarkModel): opened.
        batch (int): pieces at a time.

    Raises:
        InputError: in place of MindSpore's or Python's own exception.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not devices.is_memory_error(error):
            raise
        needed = sum(memory(model.config, batch).values())
        room = devices.memory_for_us()
        there = f" where there are {room / 1e9:.1f}" if room else ""
        raise InputError(
            f"out of memory with {batch} {'piece' if batch == 1 else 'pieces'} at a time, which takes about "
            f"{needed / 1e9:.1f} GB{there}; make fewer at a time, or choose suno/bark-small, float16 or int8"
        ) from error


def _opened(folder, where):
    """The config, the settings, and two remarks: the layout, and how weights are stored (or None)."""
    if folder in PUBLISHED and not os.path.isdir(folder):
        config = published_config(folder)
        return config, default_generation_config(config), "as published, not looked at", None
    folder = as_folder(folder)
    if folder.layout == "transformers" and not any(
        name.endswith((".safetensors", ".bin")) for name in files_in(folder)
    ):
        config = load_config(folder, **where)
        return config, load_generation_config(folder, config), "a config without weights", None
    config, defaults, tensors = open_folder(folder, **where)
    kinds = sorted({str(tensor.dtype) for tensor in tensors.values() if str(tensor.dtype) != "bool"})
    layout = {"transformers": "Hugging Face layout", "suno": "suno's own files"}[folder.layout]
    return config, defaults, layout, f"{', '.join(kinds)}, {len(tensors)} tensors"


def describe(folder, seconds=10.0, batch=1, with_table=False, **where):
    """A text that says what a model is.

    Args:
        folder (str): a model folder, with or without weights, or the hub id of a published model.
        seconds (float): length of the speech to plan for.
        batch (int): texts at a time to plan for.
        with_table (bool): add the memory for other numbers and batches.
        where: cache_dir and local_files_only, as in `open_folder`.

    Raises:
        InputError: if the folder is not a model, or the plan makes no sense.
    """
    if not 0 < seconds < math.inf or batch < 1:
        raise InputError(
            f"cannot plan for {seconds} s and {batch} prompts; expected more than 0 s and at least 1 prompt"
        )
    config, defaults, layout, stored = _opened(folder, where)
    counts, codec = parameter_counts(config), config.codec_config
    lines = [f"{printable(folder)}: Bark, speech, {layout}"]
    for stage, name in NAMES.items():
        one = getattr(config, f"{stage}_config")
        lines.append(
            f"  {name:13} {one.num_layers} layers of {one.hidden_size}, {one.num_heads} heads, "
            f"{one.input_vocab_size} ids, {counts[name] / 1e6:.1f} M parameters"
        )
    lines.append(
        f"  codec         {codec.sampling_rate} Hz, {codec.frame_rate} frames a second, "
        f"{counts['codec'] / 1e6:.1f} M parameters"
    )
    if stored:
        lines.append(f"  stored as     {stored}")
    parts = memory(config, batch)
    said = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in parts.items())
    lines.append(
        f"  memory        {sum(parts.values()) / 1e9:.2f} GB for batch {batch}, float32, any length (estimate: {said})"
    )
    at_once = min(seconds, settings.LONGEST / settings.SemanticSettings.semantic_rate_hz)
    steps, coarse, prefills, passes = work(config, defaults, at_once)
    lines.append(
        f"  work          {steps} semantic and {coarse} coarse steps, {prefills} prefills, {passes} fine passes for "
        f"{at_once:.3g} s"
    )
    times = [time_for(config, defaults, at_once, numbers) * batch for numbers in ("float32", "int8")]
    lines.append(
        f"  time          about {times[0]:.0f} s in float32, {times[1]:.0f} s in int8, on two CPU cores with AVX-512"
    )
    room, by = memory_limits.room()
    if room:
        lines.append(f"  room here     {room / 1e9:.2f} GB, as {by} leaves")
    if with_table:
        lines.append("  GB at the peak, computed" + "".join(f"{f'batch {count}':>10}" for count in (1, 2, 4, 8, 16)))
        for numbers in ("float32", "float16", "int8"):
            row = (sum(memory(config, count, numbers).values()) for count in (1, 2, 4, 8, 16))
            lines.append(f"    {numbers:<22}" + "".join(f"{size / 1e9:>10.1f}" for size in row))
    return "\n".join(lines)
