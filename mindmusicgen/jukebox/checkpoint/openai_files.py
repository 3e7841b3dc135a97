"""The files of the original program: vqvae.pth.tar, and prior_level_0.pth.tar (the finest) to prior_level_2.pth.tar.

Each holds {'model': tensors, ...}; their names map one to one to Hugging Face's.
"""

import os
import re

from ...checkpoint.source import OPENAI
from ...checkpoint.torch_file import open_torch_file
from ...errors import InputError
from ..config import JukeboxConfig

VQVAE, PRIOR = *OPENAI, "prior_level_{}.pth.tar"
UPSAMPLER = {
    "attention_pattern": "raw_column_previous_row_attention",
    "hidden_size": 1920,
    "n_heads": 1,
    "n_ctx": 8192,
    "blocks": 128,
    "nb_relevant_lyric_tokens": 0,
    "is_encoder_decoder": False,
    "metadata_dims": [120, 4111],
    "res_conv_width": 1024,
    "res_conv_depth": 16,
    "res_dilation_growth_rate": 3,
    "res_dilation_cycle": 8,
    "mask": True,
    "merged_decoder": False,
}
TOP = {  # by the width of the top prior
    2048: {"mask": True, "merged_decoder": False, "lyric_vocab_size": 79},
    4800: {
        "hidden_size": 4800,
        "num_layers": 79,
        "n_heads": 8,
        "n_ctx": 8192,
        "blocks": 128,
        "attention_pattern": "large_separated_enc_dec_w_lyrics",
        "is_encoder_decoder": False,
        "mask": True,
        "merged_decoder": True,
        "nb_relevant_lyric_tokens": 512,
        "lyric_vocab_size": 80,
        "metadata_dims": [120, 4111],
        "timing_dims": 128,
        "encoder_config": {
            "hidden_size": 1280,
            "num_layers": 18,
            "n_heads": 4,
            "blocks": 32,
            "n_ctx": 512,
            "nb_relevant_lyric_tokens": 512,
            "attention_pattern": "raw_column_previous_row_attention",
            "mask": True,
            "merged_decoder": False,
        },
    },
}
OF_PRIORS = {
    2048: {"min_duration": 17.84, "max_nb_genres": 1},
    4800: {"min_duration": 23.8, "max_nb_genres": 5, "timing_dims": 128},
}
STACK = re.compile(  # side, level, block, pair, place in it, residual block, convolution in it, last name
    r"(?:(en|de)coders\.(\d+)\.level_blocks\.(\d+)|conditioner_blocks\.0\.cond)"
    r"\.model\.(\d+)(?:\.(\d)(?:\.model\.(\d+)\.model\.(\d))?)?\.(weight|bias)$"
)
PLAIN = (  # of a prior, in this order
    (r"^conditioner_blocks\.0\.x_emb\.", "conditioner_blocks.embed_tokens."),
    (r"^conditioner_blocks\.0\.ln\.", "conditioner_blocks.layer_norm."),
    (r"^y_emb\.(bow_genre_emb|artist_emb)\.emb\.", r"metadata_embedding.\1."),
    (r"^y_emb\.", "metadata_embedding."),
    (r"^prime_prior\.", "encoder."),
    (r"^prime_state_proj\.", "encoder.proj_in."),
    (r"^prime_state_ln\.", "encoder.final_layer_norm."),
    (r"^prime_x_out\.", "encoder.lm_head."),
    (r"\.x_emb\.", ".embed_tokens."),
    (r"^prior\.x_out\.", "prior.fc_proj_out."),
    (r"\.ln_(\d)\.", r".layer_norm_\1."),
    (r"\.k$", ".codebook"),
    (r"\.w$", ".weight"),
    (r"\.b$", ".bias"),
)


def hugging_face_name(name):
    """Hugging Face's name of a tensor, without "vqvae." or "priors.N." in front."""
    found = STACK.match(name)
    if not found:
        for pattern, replacement in PLAIN:
            name = re.sub(pattern, replacement, name)
        return name
    side, level, block, pair, place, residual, conv, leaf = found.groups()
    owner = f"{side}coders.{level}.level_blocks.{block}" if side else "conditioner_blocks.upsampler"
    down = side == "en"
    if place is None:
        return f"{owner}.proj_{'out' if down else 'in'}.{leaf}"
    index = 2 * int(pair) + int(place) - (0 if down else 2)  # the first of a decoder's list is its proj_in
    part = f"{'down' if down else 'up'}sample_block.{index}"
    if residual is not None:
        part += f".resnet_block.{residual}.conv1d_{1 if conv == '1' else 2}"
    return f"{owner}.{part}.{leaf}"


def open_original(folder):
    """The config and the unread tensors of a folder with the original program's files.

    Args:
        folder (ModelFolder): with vqvae.pth.tar and the priors.

    Returns:
        JukeboxConfig, dict[str, LazyTensor] under Hugging Face's names.

    Raises:
        InputError: if a file is missing or damaged, or the model is neither of the published ones.
    """
    tensors, top = {}, 2
    found = _model(os.path.join(folder, VQVAE))
    tensors |= {f"vqvae.{hugging_face_name(name)}": tensor for name, tensor in found.items()}
    for level in range(top + 1):
        path = os.path.join(folder, PRIOR.format(top - level))
        if not os.path.isfile(path):
            raise InputError(f"{folder} has {VQVAE} and no {PRIOR.format(top - level)}; expected it beside")
        tensors |= {f"priors.{level}.{hugging_face_name(name)}": tensor for name, tensor in _model(path).items()}
    if folder.has("config.json"):
        return JukeboxConfig.from_dict(folder.json("config.json"), folder.file("config.json")), tensors
    width = tensors["priors.0.prior.pos_emb.pos_emb"].shape[-1] if "priors.0.prior.pos_emb.pos_emb" in tensors else 0
    if width not in TOP:
        raise InputError(
            f"{folder} holds a top prior of width {width}, neither 1b's nor 5b's; put its config.json there"
        )
    return published(width), tensors


def published(width):
    """The config of the 1b model (2048) or the 5b model (4800)."""
    priors = [TOP[width], UPSAMPLER | {"conv_res_scale": True}, UPSAMPLER]
    return JukeboxConfig(prior_config_list=priors, **OF_PRIORS[width])


def _model(path):
    """The tensors under 'model' of a file, by name."""
    return {name.removeprefix("module."): tensor for name, tensor in open_torch_file(path, "model").items()}
