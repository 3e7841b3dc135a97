"""MusicLDM's folders in diffusers' layout, a folder for each part: opening one, and writing one."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np

from ...checkpoint import huggingface
from ...checkpoint.safetensors_file import write_safetensors
from ...checkpoint.shards import METADATA
from ...checkpoint.source import DIFFUSERS_INDEX, open_weights, resolve
from ...checkpoint.writing import whole_folder
from ...clap import folder as clap_folder
from ...clap.features import read_features
from ...clap.prompts import PromptTokenizer
from ...errors import InputError, clip, shown
from ...habits import dtype_name, saving
from ..schedulers import open_scheduler
from ..settings import EXTRACTOR, SCHEDULER
from . import names, networks

PIPELINES = ("MusicLDMPipeline", "AudioLDMPipeline")
NEEDED = ("scheduler", "text_encoder", "tokenizer", "unet", "vae", "vocoder")
WEIGHTS = {
    "text_encoder": "model.safetensors",
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "vocoder": "model.safetensors",
}


def resolve_pipeline(model, revision=None, cache_dir=None, local_files_only=False):
    """The folder of a model, whose model_index.json describes a pipeline that is built here.

    Args:
        model, revision, cache_dir, local_files_only: as in `checkpoint.source.resolve`.

    Returns:
        ModelFolder

    Raises:
        InputError: if there is no such folder, it is of another pipeline, or it lacks a part.
    """
    folder = resolve(model, revision, cache_dir, local_files_only)
    path = folder.file(DIFFUSERS_INDEX)
    found = folder.json(DIFFUSERS_INDEX).get("_class_name")
    if found not in PIPELINES:
        raise InputError(f"{path} describes {_article(found)}; expected {' or '.join(PIPELINES)}")
    for part in NEEDED:
        if not os.path.isdir(folder.file(part)):
            raise InputError(f"{clip(folder)} lacks the folder {part}; it is incomplete, download it again")
    return folder


def _article(name):
    return f"a{'n' if str(name)[:1] in 'AEIOU' else ''} {clip(name)}" if isinstance(name, str) else shown(name)


def open_parts(folder, dtype, scheduler=None):
    """The parts of a pipeline, by the names of `MusicLDMPipeline`'s arguments.

    Args:
        folder (ModelFolder): of the whole.
        dtype (mindspore.dtype): of the UNet; bfloat16 on a CPU of autoencoder and vocoder too.
        scheduler (Scheduler): in place of the folder's.

    Raises:
        InputError: if a file is missing or damaged, or asks for what is not built here. The small files come first.
    """
    if scheduler is None:
        scheduler = open_scheduler(folder.file(SCHEDULER))
    extractor = read_features(folder.json(EXTRACTOR), folder.file(EXTRACTOR)) if folder.has(EXTRACTOR) else None
    clap = [networks.read_part(folder, part) for part in WEIGHTS][0]
    _, text_encoder = networks.make_text_encoder(folder)
    return {
        "tokenizer": PromptTokenizer(folder.file("tokenizer"), clap.text.longest, clap.text.pad_token_id),
        "scheduler": scheduler,
        "feature_extractor": extractor,
        "text_encoder": text_encoder,
        "unet": networks.make_unet(folder, dtype),
        "vae": networks.make_vae(folder, dtype),
        "vocoder": networks.make_vocoder(folder, dtype),
    }


def check_parts(pipe):
    """Refuse parts that do not fit each other.

    Raises:
        InputError: naming two of them, and their sizes.
    """
    unet, vae, vocoder = pipe.unet.config, pipe.vae.config, pipe.vocoder.config
    if unet.class_size != pipe.text_encoder.config.projection_dim:
        size = pipe.text_encoder.config.projection_dim
        raise InputError(f"the UNet reads vectors of {unet.class_size}; the text encoder makes {size}: no such pair")
    if unet.in_channels != vae.latent_channels:
        raise InputError(f"the UNet has latents of {unet.in_channels} channels, the autoencoder {vae.latent_channels}")
    if vocoder.model_in_dim % vae.stretch:
        raise InputError(f"the vocoder reads {vocoder.model_in_dim} bins; expected a multiple of {vae.stretch}")


def save(pipe, folder, dtype, habits):
    """Write a pipeline as a folder that diffusers opens; see `MusicLDMPipeline.save_pretrained`.

    Raises:
        InputError: as there.
    """
    if saving(habits) is not None:
        raise InputError("max_shard_size is not taken here; leave it out: every part is one file")
    dtype = dtype if dtype is None else dtype_name(dtype)
    if dtype not in (None, "float32", "float16"):
        raise InputError(f"dtype is {shown(dtype)}; a checkpoint is stored as float32 or float16")
    source = pipe.folder
    if source is None:
        raise InputError("this pipeline was put together from parts; save one that from_pretrained has opened")
    with whole_folder(folder) as partial:
        for part in NEEDED + ("feature_extractor",):
            if os.path.isdir(source.file(part)):
                os.mkdir(os.path.join(partial, part))
                copy_small(source.file(part), os.path.join(partial, part))
        _write_json(os.path.join(partial, SCHEDULER), pipe.scheduler.to_dict())
        for part, file in WEIGHTS.items():
            entries = _entries(pipe, part, open_weights(source.file(part)), dtype)
            write_safetensors(os.path.join(partial, part, file), entries, METADATA)
        index = source.json(DIFFUSERS_INDEX) | {"scheduler": ["diffusers", type(pipe.scheduler).__name__]}
        _write_json(os.path.join(partial, DIFFUSERS_INDEX), index)


def copy_small(source, target):
    """Copy the files of a part that hold no weights."""
    for name in os.listdir(source):
        if name.endswith((".json", ".txt")) and not name.endswith(".index.json"):
            shutil.copyfile(os.path.join(source, name), os.path.join(target, name))


def _write_json(path, values):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(values, file, indent=2)
        file.write("\n")


def _entries(pipe, part, stored, dtype):
    """The tensors of a part: its parameters, and what else the checkpoint had."""
    network = getattr(pipe, part)
    if part == "text_encoder":
        plan = clap_folder.plan(network, clap_folder.TEXT_NAMES)
    else:
        plan = names.plan(network, {"unet": names.UNET, "vae": names.VAE, "vocoder": names.VOCODER}[part])
    plan = {name: [replace(piece, weight_norm=False) for piece in pieces] for name, pieces in plan.items()}
    entries = huggingface.stored_tensors(network, plan)
    own = {name for pieces in plan.values() for piece in pieces for name in _all_names(piece)}
    for name, tensor in stored.items():
        if name not in own:
            entries.append((name, tuple(tensor.shape), tensor.read().dtype, tensor.read))
    return [
        (name, shape, np.dtype(dtype) if dtype and np.issubdtype(kind, np.floating) else kind, values)
        for name, shape, kind, values in entries
    ]


def _all_names(piece):
    """What its tensor may be called, also as magnitude and direction."""
    stems = [name.removesuffix("weight") for name in piece.names]
    return [*piece.names, *(stem + leaf for stem in stems for pair in huggingface.WEIGHT_NORM for leaf in pair)]
