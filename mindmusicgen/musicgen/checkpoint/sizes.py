"""The sizes of the published models, and how many parameters and bytes a config stands for, without any weights."""

import functools

from ...configs import (
    EncodecConfig,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenMelodyConfig,
    MusicgenMelodyDecoderConfig,
    T5Config,
)

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
INT8_BYTES = 1.1  # of a parameter of the decoder: scales, and heads in 16 bits (measured on the sizes of small)


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
        "text encoder": _text_parameters(config.text_encoder),
        "decoder": _decoder_parameters(config),
        "codec": _codec_parameters(config.audio_encoder),
    }


def part_parameters(config):
    """Parameters of one network by its own config; of a decoder those that every step reads."""
    counts = {"t5": _text_parameters, "encodec": _codec_parameters, "musicgen_decoder": step_weights}
    counts["musicgen_melody_decoder"] = functools.partial(step_weights, melody=True)
    return counts[config.model_type](config)


def _text_parameters(text):
    inner, wide = text.num_heads * text.d_kv, (3 if text.is_gated_act else 2) * text.d_model * text.d_ff
    layer = 4 * text.d_model * inner + wide + 2 * text.d_model
    biases = text.relative_attention_num_buckets * text.num_heads
    return text.vocab_size * text.d_model + text.num_layers * layer + biases + text.d_model


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


def _codec_parameters(codec):
    """The codec's, with weight norm folded."""

    def convolution(inputs, outputs, kernel):
        return inputs * outputs * kernel + outputs

    def residual(width):
        narrow = width // codec.compress
        made = convolution(width, narrow, codec.residual_kernel_size) + convolution(narrow, width, 1)
        return codec.num_residual_layers * (made + (convolution(width, width, 1) if codec.use_conv_shortcut else 0))

    def half(begin, end):  # encoder and decoder are mirror images
        width = codec.num_filters
        total = convolution(codec.audio_channels, width, begin)
        for ratio in reversed(codec.upsampling_ratios):
            total += residual(width) + 2 * width * width * 2 * ratio
            width *= 2
        return total + codec.num_lstm_layers * 8 * (width * width + width) + width * codec.hidden_size * end

    first, last, ratios = codec.kernel_size, codec.last_kernel_size, codec.upsampling_ratios
    widths = [codec.num_filters * 2**i for i in range(len(ratios) + 1)]
    encoder = half(first, last) + sum(widths[1:]) + codec.hidden_size
    decoder = half(last, first) - codec.num_filters + codec.audio_channels + sum(widths[:-1]) + widths[-1]
    return encoder + decoder + codec.num_quantizers * codec.codebook_size * codec.codebook_dim


def weight_bytes(config, counts, dtype):
    """Bytes of the weights of a run.

    Args:
        config (transformers.MusicgenConfig): the model's config.
        counts (dict): parameters of each network.
        dtype (str): float32; float16 or bfloat16, which the codec and T5's `wo` do not take part in; int8, which only
            the decoder has.
    """
    text = config.text_encoder
    wide = text.num_layers * text.d_ff * text.d_model
    each = {"float32": (4, 4), "int8": (4, INT8_BYTES)}.get(dtype, (2, 2))
    return each[0] * (counts["text encoder"] - wide) + 4 * wide + each[1] * counts["decoder"] + 4 * counts["codec"]
