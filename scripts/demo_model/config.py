"""Sizes of the demo model: MusicGen's architecture, small enough to ship with the package."""

from instruments import PLAYERS, STATES
from transformers import EncodecConfig, MusicgenConfig, MusicgenDecoderConfig, T5Config

SHARE = 32  # dimensions of the codec's vectors that belong to one player


def codec_config():
    """An EnCodec of the 32 kHz layout: 50 frames a second, a codebook for each player, 16 filters in place of 64."""
    return EncodecConfig(
        target_bandwidths=[2.0],  # 50 frames x 4 codebooks x 10 bits
        sampling_rate=32000,
        codebook_size=STATES,
        upsampling_ratios=[8, 5, 4, 4],
        use_causal_conv=False,
        use_conv_shortcut=False,
        norm_type="weight_norm",
        num_filters=16,
        hidden_size=SHARE * len(PLAYERS),
        codebook_dim=SHARE * len(PLAYERS),
        num_lstm_layers=1,
    )


def model_config(vocabulary):
    """The whole model, for a tokenizer of `vocabulary` pieces."""
    text = T5Config(vocab_size=vocabulary, d_model=128, d_kv=32, d_ff=512, num_layers=2, num_heads=4, dropout_rate=0.0)
    decoder = MusicgenDecoderConfig(
        vocab_size=STATES,
        pad_token_id=STATES,
        bos_token_id=STATES,
        hidden_size=256,
        ffn_dim=1024,
        num_hidden_layers=4,
        activation_function="relu",  # a tenth of the time of GELU in training on a CPU
        num_attention_heads=4,
        num_codebooks=len(PLAYERS),
        dropout=0.0,
    )
    return MusicgenConfig(
        text_encoder=text.to_dict(), audio_encoder=codec_config().to_dict(), decoder=decoder.to_dict()
    )
