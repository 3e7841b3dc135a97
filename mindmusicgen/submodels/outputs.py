"""What calls return: dataclasses with transformers' names and fields, read by attribute, name or position.

Positions and `to_tuple` leave out the fields that are None, as in transformers. B prompts, K codebooks, T columns,
S text positions, V codes.
"""

from dataclasses import dataclass

from mindspore import Tensor

from ..outputs import Output


@dataclass
class BaseModelOutput(Output):
    """Of an encoder.

    Attributes:
        last_hidden_state (Tensor): [B, S, D].
        hidden_states (tuple[Tensor]): what enters each layer, then the last hidden state; on request.
        attentions (tuple[Tensor]): weights of each layer, [B, heads, S, S]; on request.
    """

    last_hidden_state: Tensor = None
    hidden_states: tuple = None
    attentions: tuple = None


@dataclass
class BaseModelOutputWithPastAndCrossAttentions(Output):
    """Of the decoder without heads; see `CausalLMOutputWithCrossAttentions`."""

    last_hidden_state: Tensor = None
    past_key_values: tuple = None
    hidden_states: tuple = None
    attentions: tuple = None
    cross_attentions: tuple = None


@dataclass
class CausalLMOutputWithCrossAttentions(Output):
    """Of the decoder.

    Attributes:
        loss (Tensor): scalar, if labels were given.
        logits (Tensor): [B * K, T, V] float32.
        past_key_values (tuple): for each layer (keys, values, cross keys, cross values), [B, heads, length, d] each;
            the last two only where there was text.
        hidden_states (tuple[Tensor]): what enters each layer, then the normed last states, [B, T, D]; on request.
        attentions (tuple[Tensor]): [B, heads, T, columns known before + T] of each layer; on request.
        cross_attentions (tuple[Tensor]): [B, heads, T, S] of each layer; on request.
    """

    loss: Tensor = None
    logits: Tensor = None
    past_key_values: tuple = None
    hidden_states: tuple = None
    attentions: tuple = None
    cross_attentions: tuple = None


@dataclass
class BaseModelOutputWithPast(Output):
    """Of the melody models' decoder without heads; positions are those of the prefix, then of the codes."""

    last_hidden_state: Tensor = None
    past_key_values: tuple = None
    hidden_states: tuple = None
    attentions: tuple = None


@dataclass
class Seq2SeqLMOutput(Output):
    """Of the composite: the decoder's output and the text encoder's side by side."""

    loss: Tensor = None
    logits: Tensor = None
    past_key_values: tuple = None
    decoder_hidden_states: tuple = None
    decoder_attentions: tuple = None
    cross_attentions: tuple = None
    encoder_last_hidden_state: Tensor = None
    encoder_hidden_states: tuple = None
    encoder_attentions: tuple = None


@dataclass
class EncodecEncoderOutput(Output):
    """Codes of audio.

    Attributes:
        audio_codes (Tensor): [chunks, B, K, frames] int32; one chunk unless the codec's config has a chunk length.
        audio_scales (list): for each chunk the loudness [B, 1] that was divided out, or None.
        last_frame_pad_length (int): frames that were appended to the last chunk.
    """

    audio_codes: Tensor = None
    audio_scales: list = None
    last_frame_pad_length: int = None


@dataclass
class EncodecDecoderOutput(Output):
    """Audio of codes: `audio_values`, [B, C, N] float32."""

    audio_values: Tensor = None


@dataclass
class EncodecOutput(Output):
    """Codes [chunks, B, K, frames] and the audio [B, C, N] they stand for."""

    audio_codes: Tensor = None
    audio_values: Tensor = None
