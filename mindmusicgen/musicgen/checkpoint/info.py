"""What a checkpoint is, and what it will need: read from its config and, if it has weights, its tensors' headers."""

import contextlib
import math
import os

from ...checkpoint.names import BUFFERS
from ...checkpoint.native import stored_quantization
from ...checkpoint.source import as_folder
from ...errors import InputError
from ...generation.incremental_decoder import PIECE_SECONDS, SMALL_PIECE_SECONDS, IncrementalDecoder
from ...runtime import device as devices
from ...runtime import memory_limits
from ...runtime.telling import printable
from ..settings import TRAINED_SECONDS, window_frames
from . import sizes
from .folder import load_config, open_folder
from .names import POSITIONS

NETWORKS = {
    "text encoder": ("text_encoder.",),
    "decoder": ("decoder.", "enc_to_dec_proj.", "audio_enc_to_dec_proj.", "conditioner."),
    "codec": ("audio_encoder.",),
}
LAYOUTS = {"mindspore": "MindSpore", "transformers": "Hugging Face", "audiocraft": "audiocraft"}
TIED = "text_encoder.encoder.embed_tokens.weight"
RUNTIME_BYTES = 800e6  # MindSpore and Python themselves, measured (350 MB of it are pages of their libraries)
SAMPLES_ALIVE = 8  # widest codec activations alive at once while decoding, measured
COPIES_OF_AUDIO = 2  # of the whole clip in float32, while a file is written
TABLE_SECONDS, TABLE_BATCHES = (10, 30), (1, 2, 4, 8, 16)


def parameter_counts(tensors):
    """Parameters of each network: dict of name to count."""
    counts = dict.fromkeys(NETWORKS, 0)
    for name, tensor in tensors.items():
        if name == TIED and "text_encoder.shared.weight" in tensors:  # some files hold the table under both names
            continue
        if BUFFERS.match(name) or POSITIONS.match(name) or name.endswith(".scale"):  # the scales of 8-bit weights
            continue
        for network, prefixes in NETWORKS.items():
            if name.startswith(prefixes):
                counts[network] += math.prod(tensor.shape)
    return counts


def memory(config, parameters, seconds, batch, number_size=4, small=False):
    """Bytes a run needs at its peak, by part.

    Args:
        config (transformers.MusicgenConfig): the model's config.
        parameters (int): parameters in all.
        seconds (float): length of the music. What is longer than the model hears at a time is made window by window,
            and decoded piece by piece.
        batch (int): prompts at a time, each with a null row for guidance.
        number_size (int): bytes of a weight and of a number in the cache, 4 for float32, 2 for float16 and bfloat16.
        small (bool): a quantised model, whose codec decodes short pieces at any length.
    """
    decoder, codec = config.decoder, config.audio_encoder
    columns = min(seconds * codec.frame_rate, window_frames(config)) + getattr(config, "chroma_length", 0)
    channels = batch * decoder.audio_channels
    samples = _decoded_at_once(codec, seconds, small) * codec.sampling_rate
    return {
        "weights": number_size * parameters,
        "KV cache": 2 * number_size * 2 * batch * columns * decoder.hidden_size * decoder.num_hidden_layers,
        "codec": 4 * channels * samples * codec.num_filters * SAMPLES_ALIVE,
        "audio": 4 * channels * seconds * codec.sampling_rate * COPIES_OF_AUDIO,
        "runtime": RUNTIME_BYTES,
    }


def _decoded_at_once(codec, seconds, small):
    """Seconds of audio that the codec decodes at a time; see `codec.MusicgenCodec.decode`."""
    if not IncrementalDecoder.supports(codec):
        return seconds
    if small:
        return min(seconds, SMALL_PIECE_SECONDS)
    return seconds if seconds <= TRAINED_SECONDS else PIECE_SECONDS


def what_fits(config, parameters, seconds, batch, number_size, room, small=False):
    """A sentence for music that did not fit into memory: the most pieces at a time that do, or the greatest length.

    Args:
        config, parameters, seconds, batch, number_size, small: as in `memory`.
        room (int): bytes that there are; None if nobody knows.
    """
    said = f"out of memory with {batch} {'piece' if batch == 1 else 'pieces'} of {seconds:g} s at a time"
    if room is None:
        return f"{said}; make fewer at a time, or shorter ones"

    def needs(seconds, batch):
        return sum(memory(config, parameters, seconds, batch, number_size, small).values())

    said += f", which takes about {needs(seconds, batch) / 1e9:.1f} GB where there are {room / 1e9:.1f}"
    fitting = next((count for count in range(batch - 1, 0, -1) if needs(seconds, count) <= room), 0)
    if fitting:
        return f"{said}; at most {fitting} at a time fit"
    # The sum is an estimate, and the length that was tried was too much.
    most = math.floor(seconds / 2 if batch == 1 else seconds)
    longest = next((length for length in range(most, 0, -1) if needs(length, 1) <= room), 0)
    windows = TRAINED_SECONDS + 1  # is decoded in pieces, and so may fit where less does not
    wide = needs(seconds, batch) > room >= needs(windows, 1) and seconds < windows
    more = f", or more than {TRAINED_SECONDS} s" if wide else ""
    if longest or more:
        return f"{said}; at most {longest} s{more}, one at a time, fit"
    return f"{said}; the model alone takes {needs(0, 1) / 1e9:.1f} GB: choose a smaller one, or float16, int8 or int4"


@contextlib.contextmanager
def enough_memory(model, seconds, batch):
    """Context that says what fits, when memory is too small for what is done in it.

    Args:
        model (MusicgenForConditionalGeneration): opened.
        seconds (float): length of the music.
        batch (int): pieces at a time.

    Raises:
        InputError: in place of MindSpore's or Python's own exception.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not devices.is_memory_error(error):
            raise
        counted = getattr(model, "get_parameters", None)  # files of exported graphs have none
        sizes = [(parameter.size, parameter.nbytes) for parameter in counted()] if counted else [(0, 0)]
        parameters, stored = map(sum, zip(*sizes, strict=True))
        each = stored / parameters if parameters else 4
        room = devices.memory_for_us() if parameters else None
        small = bool(getattr(model, "quantization", None))
        raise InputError(what_fits(model.config, parameters, seconds, batch, each, room, small)) from error


def needs(config, counts, seconds, batch, numbers):
    """Bytes a run needs at its peak, by part, for what `--dtype` and `--quantization` name; see `memory`.

    Args:
        config, seconds, batch: as in `memory`.
        counts (dict): parameters of each network.
        numbers (str): float32, float16, bfloat16, int8 or int4.
    """
    small = numbers in sizes.QUANTIZED_BYTES
    size = 4 if small or numbers == "float32" else 2
    parts = memory(config, sum(counts.values()), seconds, batch, size, small)
    parts["weights"] = sizes.weight_bytes(config, counts, numbers)
    if small:
        parts["KV cache"] /= 4
    return parts


def table(config, counts):
    """Lines with the memory for some numbers, lengths and batches, in GB."""
    kinds = "float32", "float16", *(sizes.QUANTIZED_BYTES if config.model_type == "musicgen" else ())
    lines = ["  GB at the peak, computed" + "".join(f"{f'batch {batch}':>10}" for batch in TABLE_BATCHES)]
    for numbers in kinds:
        for seconds in TABLE_SECONDS:
            row = (sum(needs(config, counts, seconds, batch, numbers).values()) for batch in TABLE_BATCHES)
            name = f"{numbers}, {seconds} s"
            lines.append(f"    {name:<22}" + "".join(f"{size / 1e9:>10.1f}" for size in row))
    return lines


def is_published(name):
    """Whether the sizes of a model on the hub are known here."""
    return name in sizes.PUBLISHED


def _opened(folder, where):
    """The config, parameters of each network, and two remarks: the layout, and how weights are stored (or None)."""
    if folder in sizes.PUBLISHED and not os.path.isdir(folder):
        config = sizes.published_config(folder)
        return config, sizes.parameters(config), "as published, not looked at", None
    folder = as_folder(folder)
    if folder.layout == "transformers" and not _has_weights(folder):
        config = load_config(folder, **where)
        return config, sizes.parameters(config), "a config without weights", None
    config, tensors = open_folder(folder, **where)
    layout = LAYOUTS[folder.layout]
    kinds = sorted({str(tensor.dtype) for tensor in tensors.values()})
    stored = f"{', '.join(kinds)}, {len(tensors)} tensors"
    counts = sizes.parameters(config) if stored_quantization(folder) else parameter_counts(tensors)
    return config, counts, f"{layout} layout", stored


def _has_weights(folder):
    return any(name.endswith((".safetensors", ".bin", ".index.json")) for name in os.listdir(folder))


def describe(folder, seconds=10.0, batch=1, with_table=False, **where):
    """A text that says what a model is.

    Args:
        folder (str): a model folder, with or without weights, or the hub id of a published model.
        seconds (float): length of the music to plan for.
        batch (int): prompts at a time to plan for.
        with_table (bool): add the memory for other numbers, lengths and batches.
        where: cache_dir and local_files_only, as in `open_folder`.

    Raises:
        InputError: if the folder is not a model, or the plan makes no sense.
    """
    if not 0 < seconds < math.inf or batch < 1:
        raise InputError(
            f"cannot plan for {seconds} s and {batch} prompts; expected more than 0 s and at least 1 prompt"
        )
    config, counts, layout, stored = _opened(folder, where)
    decoder, codec, text = config.decoder, config.audio_encoder, config.text_encoder
    numbers = (stored and stored_quantization(folder)) or "float32"
    parts = needs(config, counts, seconds, batch, numbers)
    kind, more = "MusicGen", []
    if config.model_type == "musicgen_melody":
        kind = "MusicGen with melody"
        more.append(f"  melody        {config.chroma_length} frames of {config.num_chroma} pitch classes")
    if stored:
        more.append(f"  stored as     {stored}")
    channels = {1: "mono", 2: "stereo"}[decoder.audio_channels]
    said = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in parts.items())
    millions = {name: f"{count / 1e6:.1f} M parameters" for name, count in counts.items()}
    lines = [
        f"{printable(folder)}: {kind}, {channels}, {layout}",
        f"  text encoder  {text.num_layers} layers of {text.d_model}, {millions['text encoder']}",
        f"  decoder       {decoder.num_hidden_layers} layers of {decoder.hidden_size}, "
        f"{decoder.num_attention_heads} heads, {decoder.num_codebooks} codebooks of {decoder.vocab_size}, "
        + millions["decoder"],
        f"  codec         {codec.sampling_rate} Hz, {codec.frame_rate} frames a second, {millions['codec']}",
        *more,
        f"  memory        {sum(parts.values()) / 1e9:.2f} GB for {seconds:g} s, batch {batch}, {numbers} "
        f"(estimate: {said})",
    ]
    room, by = memory_limits.room()
    if room:
        lines.append(f"  room here     {room / 1e9:.2f} GB, as {by} leaves")
    return "\n".join(lines + (table(config, counts) if with_table else []))
