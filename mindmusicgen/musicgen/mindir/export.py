"""Write a MusicGen as MindIR files, from which `runtime` makes music without the networks' code."""

import mindspore as ms
import numpy as np

from ...auto import AutoProcessor, model_class
from ...checkpoint.source import resolve
from ...errors import InputError, whole_number
from ...generation.decode_loop import CACHE_BUCKETS, CHUNK, PROMPT_BUCKET, TEXT_BUCKETS, bucket
from ...generation.incremental_decoder import STEP, IncrementalDecoder
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
from ..checkpoint.folder import load_config
from ..checkpoint.sizes import parameters
from ..delay_pattern import columns_for
from ..settings import window_frames
from . import graphs
from .manifest import SIZES, Manifest

PIECES = {  # what can be asked for, and the graphs that it consists of
    "text_encoder": ("text_encoder",),
    "prefill": ("condition", "prefill"),
    "step": ("condition", "step"),
    "chunk": ("condition", "chunk"),
    "codec_encoder": ("codec_encoder",),
    "codec_decoder": ("codec_recurrent", "codec_convolutions"),
}
NETWORKS = {"text_encoder": "text encoder"} | dict.fromkeys(("prefill", "step", "chunk"), "decoder")  # in large files
DECODED_FRAMES = 25  # frames of audio that the codec's decoder makes at a time


def export(
    model, output, pieces=None, batch=1, text_length=64, duration=10.0, prompt_duration=5.0, dtype=None, **source
):
    """Export a model.

    Args:
        model (str): folder, hub id or "demo".
        output (str): folder to write; must not exist, or be empty.
        pieces (Sequence[str]): some of PIECES; None for all.
        batch (int): prompts at a time.
        text_length (int): longest prompt in tokens, rounded up to a bucket.
        duration (float): longest piece in seconds, its audio prompt included; at most the model's 30.
        prompt_duration (float): length of an audio prompt in seconds.
        dtype (str): float32 or float16, of text encoder and decoder; None: float16 on Ascend, float32 on a CPU.
        source: revision, cache_dir, local_files_only; see `resolve`.

    Returns:
        dict: the manifest.

    Raises:
        InputError: naming the argument, what is wrong and what would be right.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    names = graphs_of(pieces, PIECES)
    check_output(output)
    folder = resolve(model, **source)
    revisionless = {name: value for name, value in source.items() if name != "revision"}
    chosen, dtype = model_class(folder), exportable_dtype(folder, dtype)
    if chosen.model_type != Manifest.kind:
        raise InputError(f"{folder} is a melody model, which cannot be exported; choose a text model")
    config = load_config(folder, **revisionless)
    sizes = plan_sizes(config, batch, text_length, duration, prompt_duration)
    counts = parameters(config)
    check_space(output, [counts[NETWORKS[name]] for name in names if name in NETWORKS], dtype)

    def companions(partial):
        AutoProcessor.from_pretrained(folder, **revisionless).save_pretrained(partial)
        opened.config.save_pretrained(partial)
        opened.generation_config.save_pretrained(partial)

    with plain_operations():
        opened = chosen.from_pretrained(folder, dtype=dtype, **revisionless)
        inputs = _inputs_of(opened, sizes)
        facts = _facts(opened, sizes) | {"model": model_name(model), "dtype": str(opened.dtype).lower()}
        return write(output, {name: inputs[name] for name in names}, companions, facts)


def plan_sizes(config, batch, text_length, duration, prompt_duration):
    """The sizes that the graphs are fixed to, as the manifest keeps them.

    Raises:
        InputError: for numbers that make no sense, or that the model does not have room for.
    """
    for name, value in (("batch", batch), ("text_length", text_length)):
        whole_number(name, value, 1)
    if batch > SIZES["batch"]:
        raise InputError(f"batch is {batch}; expected at most {SIZES['batch']} prompts at a time")
    if text_length > TEXT_BUCKETS[-1]:
        raise InputError(f"text_length is {text_length}; expected at most {TEXT_BUCKETS[-1]} tokens")
    codec, decoder, most = config.audio_encoder, config.decoder, window_frames(config)
    frames = {}
    for name, seconds, limit in (("duration", duration, most), ("prompt_duration", prompt_duration, most - 1)):
        if not 0 < seconds * codec.frame_rate < limit + 1:
            raise InputError(f"{name} is {seconds}; expected more than 0 and at most {limit / codec.frame_rate:g} s")
        frames[name] = max(1, round(seconds * codec.frame_rate))
    columns = columns_for(frames["duration"], decoder.num_codebooks, decoder.audio_channels)
    if frames["prompt_duration"] >= frames["duration"]:
        raise InputError(
            f"prompt_duration is {prompt_duration}; expected less than the {duration:g} s of the whole piece"
        )
    cache_length = bucket(columns, CACHE_BUCKETS)
    return {
        "batch": batch,
        "text_length": bucket(text_length, TEXT_BUCKETS),
        "cache_length": cache_length,
        "prompt_columns": min(bucket(frames["prompt_duration"] + 1, (PROMPT_BUCKET,)), cache_length),
        "prompt_samples": frames["prompt_duration"] * codec.hop_length,
        "chunk": CHUNK,
    }


def _inputs_of(model, sizes):
    """For every graph its cell and its inputs: dict of name to (function that makes the cell, dict of arrays)."""
    config, batch, rows = model.config.decoder, sizes["batch"], 2 * sizes["batch"]
    width = model.config.text_encoder.hidden_size
    state, cache = _state_of(model, sizes)
    numbers = {"temperature": floats(1), "top_k": ints(1), "top_p": floats(1)}
    numbers = {name: array + np.array(1, array.dtype) for name, array in numbers.items()}
    books = config.num_codebooks
    column = {"forced": ints(batch, books), "uniforms": floats(batch, books), "scales": floats(1), **numbers}
    columns = {"forced": ints(CHUNK, batch, books), "uniforms": floats(CHUNK, batch, books)}
    columns |= {"scales": floats(CHUNK), **numbers}
    prompt = {"ids": ints(batch, books, sizes["prompt_columns"]), "length": ints(1) + np.int32(1)}
    newest = {"ids": ints(batch, books), "position": ints(1)}
    tokens = {"input_ids": ints(batch, sizes["text_length"]), "attention_mask": ints(batch, sizes["text_length"])}
    states = {"states": floats(rows, sizes["text_length"], width), "mask": ints(rows, sizes["text_length"])}
    made = {
        "text_encoder": (lambda: model.text_encoder, tokens),
        "condition": (lambda: graphs.Condition(model, sizes), states),
        "prefill": (lambda: graphs.Prefill(model, sizes), {**prompt, **column, **state}),
        "step": (lambda: graphs.Step(model, sizes), {**newest, **column, **state, **cache}),
        "chunk": (
            lambda: graphs.Chunk(model, sizes),
            {**newest, "steps": np.array(1, np.int32), **columns, **state, **cache},
        ),
    }
    return made | _codec_inputs(model, sizes)


def _codec_inputs(model, sizes):
    """The same for the graphs of the codec."""
    config, codec = model.config.audio_encoder, model.audio_encoder
    clips = sizes["batch"] * model.config.decoder.audio_channels
    books = model.config.decoder.num_codebooks // model.config.decoder.audio_channels
    facts = codec_facts(codec)
    hidden = floats(facts["layers"], clips, facts["hidden"])
    around = facts["left"] + facts["right"]
    window = floats(clips, DECODED_FRAMES + 2 * facts["reach"], facts["hidden"])
    return {
        "codec_encoder": (lambda: graphs.CodecEncoder(model), {"audio": floats(clips, 1, sizes["prompt_samples"])}),
        "codec_recurrent": (
            lambda: graphs.CodecRecurrent(model),
            {"codes": ints(clips, books, STEP + around), "h": hidden, "c": hidden},
        ),
        "codec_convolutions": (lambda: graphs.CodecConvolutions(_joinable(model, config)), {"x": window}),
    }


def _joinable(model, config):
    if not IncrementalDecoder.supports(config):
        raise InputError("this model's codec cannot decode in pieces; leave codec_decoder out of --pieces")
    return model


def codec_facts(codec):
    """What `IncrementalDecoder` has to know of a codec."""
    left, right = codec.decoder.layers[0].padding
    lstm = getattr(codec.decoder.layers[1], "lstm", None)
    return {
        "left": left,
        "right": right,
        "reach": codec.reach,
        "layers": codec.config.num_lstm_layers,
        "hidden": lstm.hidden_size if lstm is not None else 0,
        "piece": DECODED_FRAMES,
    }


def _state_of(model, sizes):
    """Arrays of the shapes of `graphs`' state and cache, by name."""
    config, rows = model.config.decoder, 2 * sizes["batch"]
    dtype = np.float16 if model.dtype == ms.float16 else np.float32
    heads = config.num_attention_heads
    state = {"cross_mask": np.zeros((rows, 1, 1, sizes["text_length"]), dtype)}
    cache = {}
    for i in range(config.num_hidden_layers):
        for kind in ("key", "value"):
            size = config.hidden_size // heads
            state[f"cross_{kind}.{i}"] = np.zeros((rows, heads, sizes["text_length"], size), dtype)
            cache[f"{kind}.{i}"] = np.zeros((rows, heads, sizes["cache_length"], size), dtype)
    return state, cache


def _facts(model, sizes):
    """What the manifest says of the files."""
    config = model.config.decoder
    return {
        "kind": Manifest.kind,
        "sizes": sizes,
        "cache": {
            "layers": config.num_hidden_layers,
            "heads": config.num_attention_heads,
            "head_size": config.hidden_size // config.num_attention_heads,
            "axes": "row, head, column, size; rows: the prompts, then as many null rows or negative prompts",
            "order": "key and value of each layer in turn",
        },
        "codec": codec_facts(model.audio_encoder),
        "pad_code": model.pad_code,
    }
