"""Tiny MusicGen models in transformers and torch, for `scripts/make_goldens.py` and the live parity tests.

Imported only where torch is: the ordinary tests read what it made from `tests/golden`.
"""

import contextlib

import numpy as np
import torch
import transformers
from transformers import (
    EncodecConfig,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    MusicgenMelodyConfig,
    MusicgenMelodyDecoderConfig,
    MusicgenMelodyForConditionalGeneration,
    T5Config,
)

transformers.utils.logging.set_verbosity_error()


def build_config(
    vocab=64, codebooks=4, ratios=(8, 5, 4, 4), rate=32000, text=None, codec=None, decoder=None, melody=None
):
    """A consistent `MusicgenConfig`; the dictionaries override sizes of the three networks.

    With `melody`, a dictionary of chroma_length and perhaps num_chroma, a `MusicgenMelodyConfig`.
    """
    channels = (decoder or {}).get("audio_channels", 1)
    frame_rate = -(-rate // int(np.prod(ratios)))
    codec = {
        "target_bandwidths": [frame_rate * 10 * (codebooks // channels) / 1000],
        "sampling_rate": rate,
        "num_filters": 2,
        "hidden_size": 12,
        "codebook_dim": 12,
        "codebook_size": vocab,
        "upsampling_ratios": list(ratios),
        "use_causal_conv": False,
        "use_conv_shortcut": False,
        "norm_type": "weight_norm",
        **(codec or {}),
    }
    text = {"vocab_size": 100, "d_model": 24, "d_kv": 6, "d_ff": 33, "num_layers": 2, "num_heads": 4, **(text or {})}
    decoder = {
        "vocab_size": vocab,
        "max_position_embeddings": 128,
        "num_hidden_layers": 2,
        "ffn_dim": 96,
        "num_attention_heads": 4,
        "hidden_size": 48,
        "num_codebooks": codebooks,
        "pad_token_id": vocab,
        "bos_token_id": vocab,
        **(decoder or {}),
    }
    decoder_config = MusicgenDecoderConfig if melody is None else MusicgenMelodyDecoderConfig
    networks = {
        "text_encoder": T5Config(**text).to_dict(),
        "audio_encoder": EncodecConfig(**codec).to_dict(),
        "decoder": decoder_config(**decoder).to_dict(),
    }
    return MusicgenConfig(**networks) if melody is None else MusicgenMelodyConfig(**networks, **melody)


def build(config, seed):
    """A model with random weights, large enough that greedy choices are no ties and that no bias or norm is trivial."""
    torch.manual_seed(seed)
    melody = config.model_type == "musicgen_melody"
    model = (MusicgenMelodyForConditionalGeneration if melody else MusicgenForConditionalGeneration)(config).eval()
    for name, parameter in model.named_parameters():
        if name.startswith("audio_encoder"):
            if parameter.ndim == 1:  # biases, and group norms where the codec has them
                parameter.data.normal_(1.0 if name.endswith(".norm.weight") else 0.0, 0.1)
        elif parameter.ndim > 1:
            parameter.data.normal_(std=0.2)
        else:
            parameter.data.normal_(1.0 if name.endswith("norm.weight") else 0.0, 0.1)
    for layer in model.audio_encoder.quantizer.layers:
        layer.codebook.embed.normal_(std=0.5)
    generation = model.generation_config
    start = config.decoder.vocab_size
    generation.bos_token_id = generation.pad_token_id = generation.decoder_start_token_id = start
    generation.do_sample, generation.guidance_scale, generation.max_length = True, 3.0, 30
    return model


@contextlib.contextmanager
def captured_codes(model):
    """Collect what the codec is asked to decode: one [B, K, frames] array per channel."""
    calls, decode = [], model.audio_encoder.decode

    def recording(codes, *arguments, **named):
        calls.append(codes[0].numpy().astype(np.int32))
        return decode(codes, *arguments, **named)

    model.audio_encoder.decode = recording
    try:
        yield calls
    finally:
        del model.audio_encoder.decode


def tensor(model, values):
    """An array as torch has it; floats get the model's precision."""
    values = torch.as_tensor(values)
    return values.to(model.dtype) if values.is_floating_point() else values


def generate(model, input_ids, attention_mask, **arguments):
    """Codes [B, K, frames] and audio [B, C, N] of transformers' own `generate`."""
    named = {name: tensor(model, v) if isinstance(v, np.ndarray) else v for name, v in arguments.items()}
    with torch.no_grad(), captured_codes(model) as calls:
        audio = model.generate(
            input_ids=torch.as_tensor(input_ids).long(), attention_mask=torch.as_tensor(attention_mask), **named
        )
    codes = np.stack(calls, axis=2).reshape(calls[0].shape[0], -1, calls[0].shape[2])  # left and right interleaved
    return codes, audio.numpy()


def logits(model, input_ids, attention_mask, codes, **more):
    """Logits [B * K, T, V] for codes [B * K, T], all columns at once; of a melody model with those of the prefix."""
    with torch.no_grad():
        return model(
            input_ids=torch.as_tensor(input_ids).long(),
            attention_mask=torch.as_tensor(attention_mask),
            decoder_input_ids=torch.as_tensor(codes).long(),
            **{name: tensor(model, value) for name, value in more.items()},
        ).logits.numpy()


def logits_step_by_step(model, input_ids, attention_mask, codes):
    """The same logits, one column at a time with transformers' KV cache."""
    codes, mask = torch.as_tensor(codes).long(), torch.as_tensor(attention_mask)
    cache, made = None, []
    with torch.no_grad():
        states = model.text_encoder(torch.as_tensor(input_ids).long(), mask)
        for column in range(codes.shape[1]):
            out = model(
                encoder_outputs=states,
                attention_mask=mask,
                decoder_input_ids=codes[:, column : column + 1],
                past_key_values=cache,
                use_cache=True,
            )
            cache = out.past_key_values
            made.append(out.logits)
    return torch.cat(made, dim=1).numpy()


def prompts(vocab, lengths, seed):
    """Random tokens padded with 0 on the right, and their mask: [B, S] int32 each."""
    rng, width = np.random.default_rng(seed), max(lengths)
    mask = (np.arange(width)[None] < np.array(lengths)[:, None]).astype(np.int32)
    return rng.integers(1, vocab, mask.shape).astype(np.int32) * mask, mask
