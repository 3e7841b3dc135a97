"""Write a Bark as MindIR files, from which `runtime` speaks without the networks' code."""

import mindspore as ms
import numpy as np

from ...checkpoint.source import resolve
from ...errors import InputError, whole_number
from ...generation.decode_loop import bucket
from ...generation.incremental_decoder import IncrementalDecoder
from ...mindir.export import (
    check_output,
    check_space,
    exportable_dtype,
    floats,
    graphs_of,
    ints,
    model_name,
    plain_operations,
    write,
)
from .. import settings
from ..checkpoint.folder import load_config, load_generation_config
from ..checkpoint.info import parameter_counts
from ..codec_windows import WINDOW, looks_back
from ..decode_loop import CHUNK, SemanticGraphs, StageGraphs
from ..model import BarkModel
from ..processing import BarkProcessor
from ..stages import FineGraphs
from . import graphs
from .manifest import SIZES, Manifest, stage_numbers

PIECES = {  # what can be asked for, and the graphs that it consists of
    "semantic": ("semantic_prefill", "semantic_chunk"),
    "coarse": ("coarse_prefill", "coarse_chunk"),
    "fine": ("fine",),
    "codec_decoder": ("codec_decoder",),
}
POSITIONS = 64  # a cache has room for a multiple of so many


def export(
    model,
    output,
    pieces=None,
    batch=1,
    duration=None,
    dtype=None,
    text_length=None,
    prompt_duration=None,
    revision=None,
    **source,
):
    """Export a model.

    Args:
        model (str): folder, hub id or "digits".
        output (str): folder to write; must not exist, or be empty.
        pieces (Sequence[str]): some of PIECES; None for all.
        batch (int): texts at a time; of more, the stages take so many after one another.
        duration (float): seconds of the longest piece; None: the longest that the model makes, about 15.
        dtype (str): float32 or float16, of the three stages; None: float16 on Ascend, float32 on a CPU.
        text_length, prompt_duration: must be None: they are for models of music.
        revision (str): branch, tag or commit on the hub.
        source: cache_dir and local_files_only; see `resolve`.

    Returns:
        dict: the manifest.

    Raises:
        InputError: naming the argument, what is wrong and what would be right.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    names = graphs_of(pieces, PIECES)
    _refuse_of_music(text_length=text_length, prompt_duration=prompt_duration)
    check_output(output)
    folder = resolve(model, revision, **source)
    dtype = exportable_dtype(folder, dtype)
    config = load_config(folder, **source)
    if "codec_decoder" in names and not _serves_all_lengths(config.codec_config):
        raise InputError(
            "no graph of this model's codec serves clips of all lengths; leave codec_decoder out of --pieces"
        )
    defaults = load_generation_config(folder, config)
    chosen = settings.resolve(config, defaults, {}, 1, 0)
    sizes, positions = plan_sizes(config, chosen, batch, duration)
    counts = parameter_counts(config)
    check_space(output, [counts[name.split("_")[0]] for name in names], dtype)
    processor = BarkProcessor.from_pretrained(folder, **source)

    def companions(partial):
        processor.save_pretrained(partial)
        opened.config.save_pretrained(partial)
        longest = min(chosen.semantic.max_new_tokens, sizes["tokens"])
        defaults.semantic_config = settings.stored(defaults, "semantic_") | {"max_new_tokens": longest}
        defaults.save_pretrained(partial)

    with plain_operations():
        opened = BarkModel.from_pretrained(folder, dtype=dtype, **source)
        inputs = _graphs(opened, sizes, positions)
        facts = _facts(opened, sizes, positions) | {"model": model_name(model), "dtype": str(opened.dtype).lower()}
        return write(output, {name: inputs[name] for name in names}, companions, facts)


def _refuse_of_music(**given):
    for name, value in given.items():
        if value is not None:
            raise InputError(f"{name} is for models of music; a Bark's texts and voices have one size: leave it out")


def _serves_all_lengths(codec):
    """Whether a clip with zeros behind it is decoded as it would be alone, however short it is: what its first
    convolution makes of a frame must be longer, once upsampled, than what the others mirror."""
    mirrored = (codec.residual_kernel_size - 1) * codec.dilation_growth_rate ** (codec.num_residual_layers - 1)
    long_enough = codec.upsampling_ratios[0] > mirrored and codec.hop_length >= codec.last_kernel_size
    return looks_back(codec) and IncrementalDecoder.supports(codec) and long_enough


def plan_sizes(config, chosen, batch, duration):
    """The sizes that the graphs are fixed to, as the manifest keeps them, and the positions of the two caches.

    Args:
        config (BarkConfig): of the model.
        chosen (settings.Settings): the model's own.
        batch (int), duration (float): as in `export`.

    Raises:
        InputError: for numbers that make no sense, or that the model does not have room for.
    """
    if whole_number("batch", batch, 1) > SIZES["batch"]:
        raise InputError(f"batch is {batch}; expected at most {SIZES['batch']} texts at a time")
    semantic, rate = chosen.semantic, chosen.semantic.semantic_rate_hz
    length, room = semantic.max_input_semantic_length, config.semantic_config.block_size
    tokens = min(settings.LONGEST, room - length)
    if duration is not None:
        if not isinstance(duration, (int, float)) or not 0 < duration <= tokens / rate:
            raise InputError(f"duration is {duration}; expected more than 0 and at most {tokens / rate:g} s")
        tokens = max(int(duration * rate), 1)
    coarse_room = config.coarse_acoustics_config.block_size
    sizes = {
        "batch": batch,
        "tokens": tokens,
        "prompt": 2 * length + 1,
        "ids": semantic.eos_token_id + 1,
        "coarse_prompt": min(chosen.coarse.max_coarse_input_length + 1 + settings.MOST_HISTORY, coarse_room),
        "codes": chosen.codebook_size,
        "window": chosen.fine.max_fine_input_length,
        "books": chosen.fine.n_fine_codebooks,
        "chunk": CHUNK,
    }
    return sizes, {"semantic": min(bucket(length + tokens, (POSITIONS,)), room), "coarse": coarse_room}


def _facts(model, sizes, positions):
    """What the manifest says of the files."""
    return {
        "kind": Manifest.kind,
        "sizes": sizes,
        "semantic": stage_numbers(model.semantic.config, positions["semantic"]),
        "coarse": stage_numbers(model.coarse_acoustics.config, positions["coarse"]),
        "codec": codec_numbers(model.codec_model),
    }


def _graphs(model, sizes, positions):
    """For every graph a function that makes its cell, and its inputs: arrays by name."""
    batch, ids, codes, books = (sizes[name] for name in ("batch", "ids", "codes", "books"))
    filters = {"temperature": floats(1) + np.float32(1), "top_k": ints(1) + np.int32(1)}
    filters["top_p"] = floats(1) + np.float32(2)
    made = {}
    for stage, kind, network, rest, width in (
        ("semantic", SemanticGraphs, model.semantic, (ids, ids - 1), sizes["prompt"]),
        ("coarse", StageGraphs, model.coarse_acoustics, (codes,), sizes["coarse_prompt"]),
    ):

        def prefill(kind=kind, network=network, rest=rest, room=positions[stage]):
            return graphs.Prefill(kind(network, batch, *rest, positions=room))

        def chunk(kind=kind, network=network, rest=rest, room=positions[stage]):
            return graphs.Chunk(kind(network, batch, *rest, positions=room))

        known = {"ids": ints(batch, width), "length": ints(1) + np.int32(1), "first": ints()}
        known |= {"uniforms": floats(batch), "least": floats(1), **filters}
        steps = {"ids": ints(batch), "position": ints(1), "steps": np.array(1, np.int32), "firsts": ints(CHUNK)}
        steps |= {"uniforms": floats(CHUNK, batch), "least": floats(1), **filters}
        cache = _cache(network, batch, positions[stage], model.dtype)
        made |= {f"{stage}_prefill": (prefill, known), f"{stage}_chunk": (chunk, steps | cache)}
    window = {"codes": ints(1, sizes["window"], books), "book": np.array(2, np.int32)}
    window |= {"temperature": floats(1), "uniforms": floats(sizes["window"])}
    codec = codec_numbers(model.codec_model)
    state, left = (codec["layers"], 1, codec["hidden"]), codec["left"]
    clip = {"codes": ints(1, books, left + WINDOW), "h": floats(*state), "c": floats(*state)}
    clip |= {"before": floats(1, codec["reach"], codec["hidden"]), "skip": ints()}
    return made | {
        "fine": (lambda: graphs.Fine(FineGraphs(model.fine_acoustics, codes)), window),
        "codec_decoder": (lambda: graphs.CodecDecoder(model.codec_model), clip),
    }


def codec_numbers(codec):
    """What the manifest says of the codec's decoder."""
    lstm = getattr(codec.decoder.layers[1], "lstm", None)
    return {
        "left": codec.decoder.layers[0].padding[0],
        "reach": codec.reach,
        "layers": codec.config.num_lstm_layers,
        "hidden": lstm.hidden_size if lstm is not None else 0,
        "window": WINDOW,
    }


def _cache(network, batch, positions, dtype):
    """Arrays of the shapes of a stage's cache, by name."""
    numbers = stage_numbers(network.config, positions)
    shape = (batch, numbers["heads"], positions, numbers["head_size"])
    kind = np.float16 if dtype == ms.float16 else np.float32
    names = (f"{one}.{i}" for i in range(numbers["layers"]) for one in ("key", "value"))
    return {name: np.zeros(shape, kind) for name in names}
