"""The sizes of the published models, and how many parameters and bytes a config stands for, without any weights."""

from ...configs import EncodecConfig, T5Config
from ...models import encodec, t5
from ..configs import MusicgenConfig, MusicgenDecoderConfig, MusicgenMelodyConfig, MusicgenMelodyDecoderConfig

SIZES = {"small": (24, 1024, 16), "medium": (48, 1536, 24), "large": (48, 2048, 32)}  # layers, width, heads
PUBLISHED = {  # hub id: size, channels, whether it follows a melody
    "facebook/musicgen-small": ("small", 1, False),
    "facebook/musicgen-medium": ("medium", 1, False),
    "facebook/musicgen-large": ("large", 1, False),
    "facebook/musicgen-stereo-small": ("small", 2, False),
    "facebook/musicgen-stereo-medium": ("medium", 2, False),
    "facebook/musicgen-stereo-large": ("large", 2, False),
    "facebook/musicgen-melody": ("medium", 1, True),
    "facebook/musicgen-melody-large": ("large", 1, True),
    "facebook/musicgen-stereo-melody": ("medium", 2, True),
    "facebook/musicgen-stereo-melody-large": ("large", 2, True),
}
TEXT = {"vocab_size": 32128, "d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12}  # T5-base
CODEC = {
    "sampling_rate": 32000,
    "target_bandwidths": [2.2],
    "num_filters": 64,
    "hidden_size": 128,
    "codebook_dim": 128,
    "codebook_size": 2048,
    "upsampling_ratios": [8, 5, 4, 4],
    "use_causal_conv": False,
    "use_conv_shortcut": False,
}
# Of a parameter of the decoder: scales, heads in 16 bits, tables in 32 (of folders of small; int4 has 0.65).
QUANTIZED_BYTES = {"int8": 1.1, "int4": 0.67}


def published_config(name):
    """The config of a published model, by its hub id.

    Returns:
        MusicgenConfig | MusicgenMelodyConfig
    """
    size, channels, melody = PUBLISHED[name]
    layers, width, heads = SIZES[size]
    sizes = {"num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads, "ffn_dim": 4 * width}
    sizes |= {"num_codebooks": 4 * channels, "audio_channels": channels}
    kind, decoder = (
        (MusicgenMelodyConfig, MusicgenMelodyDecoderConfig(**sizes))
        if melody
        else (MusicgenConfig, MusicgenDecoderConfig(**sizes))
    )
    return kind.from_sub_models_config(T5Config(**TEXT), EncodecConfig(**CODEC), decoder)


def parameters(config):
    """Parameters of each network of a config: dict of name to count, as `info.parameter_counts` finds them."""
    return {
        "text encoder": t5.parameter_count(config.text_encoder),
        "decoder": _decoder_parameters(config),
        "codec": encodec.parameter_count(config.audio_encoder),
    }


def step_weights(decoder, melody=False):
    """Weights of the decoder that every step reads: all matrices but those of the text's keys and values.

    Args:
        decoder (transformers.MusicgenDecoderConfig): the decoder's config.
        melody (bool): whether it has no cross-attention.
    """
    width, attention = decoder.hidden_size, 4 if melody else 6
    layer = attention * width * width + 2 * width * decoder.ffn_dim
    return decoder.num_hidden_layers * layer + decoder.num_codebooks * decoder.vocab_size * width


def _decoder_parameters(config):
    """The decoder's, and those of the projections in front of it."""
    decoder, width, text = config.decoder, config.decoder.hidden_size, config.text_encoder.d_model
    melody = config.model_type == "musicgen_melody"
    norms = (4 if melody else 6) * width
    others = decoder.num_hidden_layers * (norms + (0 if melody else 2 * width * width)) + 2 * width
    others += decoder.num_codebooks * (decoder.vocab_size + 1) * width  # embedding tables
    if melody:
        others += (config.num_chroma + 1) * width
    if text != width:
        others += (text + 1) * width
    return step_weights(decoder, melody) + others


def weight_bytes(config, counts, dtype):
    """Bytes of the weights of a run.

    Args:
        config (transformers.MusicgenConfig): the model's config.
        counts (dict): parameters of each network.
        dtype (str): float32; float16 or bfloat16, which the codec and T5's `wo` do not take part in; int8 or int4,
            which only the decoder has.
    """
    text = config.text_encoder
    wide = text.num_layers * text.d_ff * text.d_model
    each = (4, QUANTIZED_BYTES.get(dtype, 4)) if dtype in ("float32", *QUANTIZED_BYTES) else (2, 2)
    return each[0] * (counts["text encoder"] - wide) + 4 * wide + each[1] * counts["decoder"] + 4 * counts["codec"]
