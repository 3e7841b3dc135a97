"""Suno's own files: text.pt, coarse.pt and fine.pt, or the large ones with _2, each with a stage's sizes and weights.

They hold no codec and no tokenizer; those are EnCodec's at 24 kHz and BERT's, multilingual and cased.
"""

import os
import re

from ...checkpoint.config_file import config_errors, quiet_transformers
from ...checkpoint.source import files_in
from ...checkpoint.torch_file import LazyTensor, read_torch_pickle
from ...errors import InputError, clip
from ..config import CODEC, STAGES, BarkConfig

FILES = dict(zip(STAGES, ("text", "coarse", "fine"), strict=True))
SIZES = ("", "_2")  # ends of the names: small, large
CODEC_OF_BARK = "facebook/encodec_24khz"
NAMES = (  # suno's and transformers'
    (".ln_1.", ".layernorm_1."),
    (".ln_2.", ".layernorm_2."),
    ("ln_f.", "layernorm_final."),
    ("wte", "input_embeds_layer"),
    ("wpe.", "position_embeds_layer."),
    (".c_attn.", ".att_proj."),
    (".c_proj.", ".out_proj."),
    (".c_fc.", ".in_proj."),
)
ARGUMENTS = {"n_layer": "num_layers", "n_head": "num_heads", "n_embd": "hidden_size", "block_size": "block_size"}
ARGUMENTS |= {"input_vocab_size": "input_vocab_size", "output_vocab_size": "output_vocab_size", "bias": "bias"}
ARGUMENTS |= {"n_codes_total": "n_codes_total", "n_codes_given": "n_codes_given"}
GENERATION = {  # what suno's program does unless told otherwise
    "semantic_config": {"do_sample": True, "temperature": 0.7, "top_k": 0, "min_eos_p": 0.2},
    "coarse_acoustics_config": {"do_sample": True, "temperature": 0.7, "top_k": 0},
    "fine_acoustics_config": {"temperature": 0.5},
}


def paths_of(folder):
    """The files of the stages: {stage: path}.

    Raises:
        InputError: if some are missing, or there are those of two sizes.
    """
    names = files_in(folder)
    ends = [end for end in SIZES if all(f"{name}{end}.pt" in names for name in FILES.values())]
    if len(ends) > 1:
        raise InputError(f"{folder} holds Bark in two sizes, text.pt and text_2.pt; keep one of them in a folder")
    if not ends:
        end = next(end for end in SIZES if f"text{end}.pt" in names)
        lost = next(f"{name}{end}.pt" for name in FILES.values() if f"{name}{end}.pt" not in names)
        raise InputError(f"{folder} holds text{end}.pt and no {lost}; Bark needs the three stages")
    return {stage: os.path.join(folder, f"{name}{ends[0]}.pt") for stage, name in FILES.items()}


def open_stage(path):
    """One file: the sizes as transformers' config has them, and the unread tensors under its names.

    Raises:
        InputError: if it is damaged or something else.
    """
    found = read_torch_pickle(path)
    sizes, weights = (found.get(name) if isinstance(found, dict) else None for name in ("model_args", "model"))
    if not isinstance(sizes, dict) or not isinstance(weights, dict):
        raise InputError(f"{path} is none of suno's stages: expected a file with model and model_args")
    tensors = {}
    for name, tensor in weights.items():
        if not isinstance(name, str) or not isinstance(tensor, LazyTensor):
            raise InputError(f"{path} holds {clip(name)}, which is no tensor; download it again")
        tensors[renamed(name)] = tensor
    values = {ours: sizes[theirs] for theirs, ours in ARGUMENTS.items() if theirs in sizes}
    if "vocab_size" in sizes:  # of older files, for both
        values |= {"input_vocab_size": sizes["vocab_size"], "output_vocab_size": sizes["vocab_size"]}
    return values, tensors


def renamed(name):
    """transformers' name of one of suno's tensors."""
    name = name.removeprefix("_orig_mod.").removeprefix("transformer.")
    name = re.sub(r"^h\.", "layers.", name)
    for theirs, ours in NAMES:
        name = name.replace(theirs, ours, 1)
    return name


def open_suno(folder, codec_config):
    """The config of a whole model, and the unread tensors of its stages.

    Args:
        folder (str): with the three files.
        codec_config (transformers.EncodecConfig): of the codec beside them.

    Returns:
        BarkConfig, dict[str, LazyTensor]

    Raises:
        InputError: if a file is missing, damaged, or something else.
    """
    parts, tensors = {}, {}
    for stage, path in paths_of(folder).items():
        parts[stage], found = open_stage(path)
        tensors |= {f"{stage}.{name}": tensor for name, tensor in found.items()}
    with quiet_transformers(), config_errors(folder, "used"):
        config = BarkConfig(
            **{f"{stage}_config": values for stage, values in parts.items()}, codec_config=codec_config.to_dict()
        )
    return config, tensors


def codec_tensors(tensors):
    """A codec's own tensors under the names that they have in a Bark."""
    return {f"{CODEC}.{name}": tensor for name, tensor in tensors.items()}
