"""Weights of CLAP's two sides: which tensors of a ClapModel's folder make up which parameter."""

import math
import re

from ..checkpoint import huggingface
from ..checkpoint.huggingface import Piece
from ..errors import InputError

TEXT_NAMES = (  # of parameters here, and what takes their place
    (r"^embeddings\.(\w+_embeddings)$", r"text_model.embeddings.\1.weight"),
    (r"^embeddings\.norm\.", "text_model.embeddings.LayerNorm."),
    (r"^layers\.", "text_model.encoder.layer."),
    (r"\.output\.", ".output.dense."),
    (r"\.output_norm\.", ".output.LayerNorm."),
    (r"\.qkv\.", ".attention.self.qkv."),
    (r"\.attended\.", ".attention.output.dense."),
    (r"\.attended_norm\.", ".attention.output.LayerNorm."),
    (r"\.intermediate\.", ".intermediate.dense."),
    (r"^pooler\.", "text_model.pooler.dense."),
    (r"^linear(\d)\.", r"text_projection.linear\1."),
)
AUDIO_NAMES = (
    (r"^(mean|variance)$", r"audio_model.audio_encoder.batch_norm.running_\1"),
    (r"^(weight|bias)$", r"audio_model.audio_encoder.batch_norm.\1"),
    (r"running_variance$", "running_var"),
    (r"^patches\.", "audio_model.audio_encoder.patch_embed.proj."),
    (r"^patch_norm\.", "audio_model.audio_encoder.patch_embed.norm."),
    (r"^norm\.", "audio_model.audio_encoder.norm."),
    (r"^stages\.(\d+)\.(norm|reduction)\.", r"audio_model.audio_encoder.layers.\1.downsample.\2."),
    (r"^stages\.", "audio_model.audio_encoder.layers."),
    (r"\.(relative_position_bias_table)$", r".attention.self.\1"),
    (r"\.output\.", ".output.dense."),
    (r"\.qkv\.", ".attention.self.qkv."),
    (r"\.attended\.", ".attention.output.dense."),
    (r"\.intermediate\.", ".intermediate.dense."),
    (r"^linear(\d)\.", r"audio_projection.linear\1."),
)
QKV = ("query", "key", "value")
TEXT, AUDIO = ("text_model.", "text_projection."), ("audio_model.", "audio_projection.")
BUFFERS = re.compile(  # without a meaning: indices that follow from the sizes, statistics of training, scales of a loss
    r"(.*\.)?(position_ids|token_type_ids|relative_position_index|num_batches_tracked)$|logit_scale_[at]$"
)


def plan(network, names):
    """The pieces of every parameter.

    Args:
        network (nn.Cell): one side.
        names (Sequence[tuple[str, str]]): regular expressions in its parameters' names, and what takes their place.

    Returns:
        dict[str, list[Piece]] by parameter name.
    """
    made = {}
    for name, parameter in network.parameters_and_names():
        stored = name
        for pattern, replacement in names:
            stored = re.sub(pattern, replacement, stored)
        if ".qkv." in stored:
            rows = parameter.shape[0] // 3
            made[name] = [
                Piece((stored.replace(".qkv.", f".{part}."),), slice(i * rows, (i + 1) * rows))
                for i, part in enumerate(QKV)
            ]
        elif stored.endswith("patch_embed.proj.weight"):
            side = math.isqrt(parameter.shape[1])
            shape = (-1, 1, side, side)
            made[name] = [
                Piece((stored,), pack=lambda w: w.reshape(len(w), -1), unpack=lambda w, s=shape: w.reshape(s))
            ]
        else:
            made[name] = [Piece((stored,))]
    return made


def fill(network, tensors, source, names, own):
    """Fill one side with its tensors; those of the other side stay unread.

    Args:
        network (nn.Cell): the side.
        tensors (dict[str, LazyTensor]): of the folder.
        source (str): what to call the folder in errors.
        names (Sequence[tuple[str, str]]): as in `plan`.
        own (tuple[str]): how the names of its tensors begin.

    Raises:
        InputError: for a missing, left-over or misshapen tensor, by name.
    """
    check_names(tensors, source)
    wanted = {name: tensor for name, tensor in tensors.items() if name.startswith(own) and not BUFFERS.match(name)}
    huggingface.load(network, wanted, source, plan(network, names), lambda name, tensor: False)


def check_names(tensors, source):
    """Refuse tensors that belong to neither side.

    Raises:
        InputError: naming one.
    """
    extra = sorted(name for name in tensors if not name.startswith(TEXT + AUDIO) and not BUFFERS.match(name))
    if extra:
        raise InputError(f"{source} holds {extra[0][:100]}, which the model config.json describes does not have")
