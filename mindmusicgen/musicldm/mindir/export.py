"""Write a MusicLDM as MindIR files, from which `runtime` makes music without the networks' code."""

import os
import shutil

from ...arguments import number
from ...checkpoint.source import DIFFUSERS_INDEX
from ...clap.features import read_features
from ...errors import InputError, clip, whole_number
from ...generation.decode_loop import bucket
from ...mindir.export import (
    check_output,
    check_space,
    exportable_dtype,
    graphs_of,
    model_name,
    plain_operations,
    write,
)
from .. import settings
from ..checkpoint import folder as folders
from ..checkpoint import networks
from ..checkpoint.info import parameter_counts, stored_tensors
from ..model import MusicLDMPipeline
from ..settings import EXTRACTOR
from .manifest import SIZES, Manifest, inputs

PIECES = {  # what can be asked for, and the graphs that it consists of
    "text_encoder": ("text_vector",),
    "unet": ("noise",),
    "vae": ("spectrogram",),
    "vocoder": ("waveform",),
    "scorer": ("audio_vector",),
}
TEXT_LENGTHS = (16, 32, 64, 128, 256, 512)


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
        model (str): folder or hub id.
        output (str): folder to write; must not exist, or be empty.
        pieces (Sequence[str]): some of PIECES; None for all that the model has: not all can rank.
        batch (int): waveforms with guidance at a time; of more, the UNet takes so many after one another.
        duration (float): seconds of the pieces; None: what the model was trained on, 10.24 s.
        dtype (str): float32 or float16, of the UNet; None: float16 on Ascend, float32 on a CPU.
        text_length (int): tokens of the longest prompt, rounded up; None: 64, or what the model takes.
        prompt_duration: must be None: it is for models that continue recordings.
        revision (str): branch, tag or commit on the hub.
        source: cache_dir and local_files_only; see `resolve`.

    Returns:
        dict: the manifest.

    Raises:
        InputError: naming the argument, what is wrong and what would be right.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    if prompt_duration is not None:
        raise InputError("prompt_duration is for models that continue recordings; MusicLDM starts from noise")
    names = graphs_of(pieces, PIECES)
    check_output(output)
    folder = folders.resolve_pipeline(model, revision, **source)
    dtype = exportable_dtype(folder, dtype)
    clap, *parts = (networks.read_part(folder, part) for part in ("text_encoder", "unet", "vae", "vocoder"))
    ranks = clap.audio is not None and folder.has(EXTRACTOR)
    if "audio_vector" in names and not ranks:
        if pieces is not None:
            raise InputError(f"{clip(folder)} has nothing that ranks; leave scorer out of --pieces")
        names.remove("audio_vector")
    sizes = plan_sizes(settings.Sizes(*parts), clap.text.longest, batch, duration, text_length)
    counts = parameter_counts(stored_tensors(folder))
    written = [part for part, graphs in PIECES.items() if graphs[0] in names]
    check_space(output, [counts["text_encoder" if part == "scorer" else part] for part in written], dtype)
    with plain_operations():
        pipe = MusicLDMPipeline.from_pretrained(folder, dtype=dtype)
        cells = {"text_vector": pipe.text_encoder, "noise": pipe.unet}
        cells |= {"spectrogram": pipe.vae, "waveform": pipe.vocoder}
        if "audio_vector" in names:
            cells["audio_vector"] = pipe.scorer.audio_encoder
        features = read_features(folder.json(EXTRACTOR), folder.file(EXTRACTOR)) if ranks else None
        taken = inputs(sizes, pipe.sizes, features)
        facts = {"kind": Manifest.kind, "model": model_name(model), "dtype": str(dtype).lower(), "sizes": sizes}
        graphs = {name: (lambda cell=cells[name]: cell, taken[name]) for name in names}
        return write(output, graphs, lambda partial: _companions(folder, partial), facts)


def plan_sizes(networks, longest, batch, duration, text_length):
    """The sizes that the graphs are fixed to, as the manifest keeps them.

    Args:
        networks (settings.Sizes): of the UNet, the autoencoder and the vocoder.
        longest (int): tokens that the text encoder has room for.
        batch (int), duration (float), text_length (int): as in `export`.

    Raises:
        InputError: for numbers that make no sense, or that the model does not have room for.
    """
    if whole_number("batch", batch, 1) > SIZES["batch"]:
        raise InputError(f"batch is {batch}; expected at most {SIZES['batch']} waveforms at a time")
    if duration is not None:
        number("duration", duration, settings.SHORTEST, settings.LONGEST)
    _, lines, samples = settings.length(networks, duration)
    tokens = min(64, longest) if text_length is None else whole_number("text_length", text_length, 1)
    if tokens > longest:
        raise InputError(f"text_length is {tokens}; expected at most {longest}, which the text encoder has room for")
    room = min(bucket(tokens, TEXT_LENGTHS), longest)
    return {"batch": batch, "lines": lines, "samples": samples, "text_length": room}


def _companions(folder, partial):
    """The small files of a folder: configs, the scheduler, the tokenizer."""
    for part in (*folders.NEEDED, "feature_extractor"):
        if os.path.isdir(folder.file(part)):
            os.mkdir(os.path.join(partial, part))
            folders.copy_small(folder.file(part), os.path.join(partial, part))
    shutil.copyfile(folder.file(DIFFUSERS_INDEX), os.path.join(partial, DIFFUSERS_INDEX))
