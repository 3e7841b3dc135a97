"""The configs of CLAP's two sides, read from a config.json: that of ClapModel, or of its text side alone."""

from dataclasses import dataclass

from ..checkpoint.fields import COUNT, TABLE, WIDTH, Fields
from ..errors import InputError, shown

WHOLE, TEXT_ALONE = "clap", "clap_text_model"  # model_type of either
OF_TRAINING = ("attention_probs_dropout_prob", "hidden_dropout_prob", "drop_path_rate", "initializer_factor")
OF_TRAINING += ("projection_dim",)


@dataclass(frozen=True)
class TextConfig:
    """RoBERTa's sizes, those of the published checkpoints by default."""

    vocab_size: int = 50265
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 514
    pad_token_id: int = 1
    layer_norm_eps: float = 1e-12
    projection_dim: int = 512

    @property
    def longest(self):
        """Tokens that there are positions for."""
        return self.max_position_embeddings - self.pad_token_id - 1


@dataclass(frozen=True)
class AudioConfig:
    """The sizes of HTSAT, a Swin transformer of spectrograms; by default those of HTSAT-base."""

    window_size: int = 8
    num_mel_bins: int = 64
    spec_size: int = 256
    patch_size: int = 4
    width: int = 128
    depths: tuple = (2, 2, 12, 2)
    num_attention_heads: tuple = (4, 8, 16, 32)
    mlp_ratio: float = 4.0
    layer_norm_eps: float = 1e-5
    hidden_size: int = 1024
    projection_dim: int = 512


@dataclass(frozen=True)
class ClapConfig:
    """Both sides; `audio` is None for a text side alone."""

    text: TextConfig
    audio: AudioConfig = None


def read_config(values, path):
    """The config in the values of a config.json.

    Args:
        values (dict): of the file.
        path (str): the file, for errors.

    Returns:
        ClapConfig

    Raises:
        InputError: naming the field, if it is of another kind of model, or beyond what is built here.
    """
    kind = values.get("model_type")
    if kind == TEXT_ALONE:
        return ClapConfig(_text(values, path, None))
    if kind != WHOLE:
        raise InputError(f"{path} describes a {shown(kind)} model; expected model_type {WHOLE!r} or {TEXT_ALONE!r}")
    whole = Fields(values, path)
    size = whole.whole("projection_dim", 512)
    whole.fixed(projection_hidden_act="relu")
    sides = [whole.get(name) or {} for name in ("text_config", "audio_config")]
    if not all(isinstance(side, dict) for side in sides):
        raise InputError(f"{path} sets text_config or audio_config to no object; download it again")
    whole.unused("hidden_size", "num_hidden_layers", "logit_scale_init_value", "initializer_factor")
    whole.unused("text_config_dict", "audio_config_dict", *OF_TRAINING)
    whole.general()
    whole.finish()
    return ClapConfig(_text(sides[0], path, size), _audio(sides[1], path, size))


def _text(values, path, size):
    fields, usual = Fields(values, path), TextConfig()
    sizes = {
        name: fields.whole(name, getattr(usual, name), limits)
        for name, limits in {
            "vocab_size": TABLE,
            "hidden_size": WIDTH,
            "num_hidden_layers": COUNT,
            "num_attention_heads": WIDTH,
            "intermediate_size": (1, 1 << 16),
            "max_position_embeddings": (8, 1 << 16),
        }.items()
    }
    if sizes["hidden_size"] % sizes["num_attention_heads"]:
        fields.refuse("num_attention_heads", f"a divisor of hidden_size {sizes['hidden_size']}")
    pad = fields.whole("pad_token_id", 1, (0, sizes["max_position_embeddings"] - 4))
    eps = fields.number("layer_norm_eps", 1e-12, 0, 1e-2)
    size = size or fields.whole("projection_dim", 512)
    fields.fixed(hidden_act="gelu", position_embedding_type="absolute", projection_hidden_act="relu", type_vocab_size=1)
    fields.unused(*OF_TRAINING)
    fields.general()
    fields.finish()
    return TextConfig(**sizes, pad_token_id=pad, layer_norm_eps=eps, projection_dim=size)


def _audio(values, path, size):
    fields, usual = Fields(values, path), AudioConfig()
    depths = fields.wholes("depths", (2, 2, 6, 2), COUNT)
    heads = fields.wholes("num_attention_heads", (4, 8, 16, 32), WIDTH, len(depths))
    width = fields.whole("patch_embeds_hidden_size", 96)
    hidden = fields.whole("hidden_size", 768)
    if hidden != width << (len(depths) - 1):
        fields.refuse("hidden_size", f"{width << (len(depths) - 1)}: patch_embeds_hidden_size doubled by each stage")
    if any((width << i) % count for i, count in enumerate(heads)):
        fields.refuse("num_attention_heads", "divisors of the widths of the stages")
    patch = fields.whole("patch_size", 4, (1, 16))
    spec, bins = fields.whole("spec_size", 256, (16, 4096)), fields.whole("num_mel_bins", 64, (8, 512))
    window = fields.whole("window_size", 8, (2, 64))
    if spec % bins or spec % (patch << (len(depths) - 1)):
        fields.refuse("spec_size", f"a multiple of num_mel_bins {bins} and of {patch << (len(depths) - 1)}")
    if spec // patch >> (len(depths) - 1) < window:
        fields.refuse("window_size", f"at most {spec // patch >> (len(depths) - 1)}, the side of the last stage")
    made = AudioConfig(
        window_size=window,
        num_mel_bins=bins,
        spec_size=spec,
        patch_size=patch,
        width=width,
        depths=depths,
        num_attention_heads=heads,
        mlp_ratio=fields.number("mlp_ratio", 4.0, 0.1, 16),
        layer_norm_eps=fields.number("layer_norm_eps", usual.layer_norm_eps, 0, 1e-2),
        hidden_size=hidden,
        projection_dim=size,
    )
    fields.fixed(hidden_act="gelu", enable_fusion=False, qkv_bias=True, enable_patch_layer_norm=True)
    fields.fixed(flatten_patch_embeds=True, projection_hidden_act="relu", patch_embed_input_channels=1)
    if fields.get("patch_stride", [patch, patch]) not in ([patch, patch], (patch, patch)):
        fields.refuse("patch_stride", f"{[patch, patch]}, the patch size")
    fields.unused("fusion_type", "aff_block_r", "num_classes", "num_hidden_layers", "projection_dim", *OF_TRAINING)
    fields.general()
    fields.finish()
    return made
