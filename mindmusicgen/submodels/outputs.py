"""What calls return: dataclasses with transformers' names and fields, read by attribute, name or position.

Positions and `to_tuple` leave out the fields that are None, as in transformers. B prompts, K codebooks, T columns,
S text positions, V codes.
"""

from dataclasses import dataclass, fields

from mindspore import Tensor


class Output:
    """Base of the outputs: `out.logits`, `out["logits"]`, `out[0]`, `out[:2]`, `dict(out)`."""

    other_names = ()  # of attributes that repeat a field

    @property
    def cache(self):
        """transformers 5's name for `past_key_values`."""
        return getattr(self, "past_key_values", None)

    def keys(self):
        """Names of the fields that are set, in order."""
        return [field.name for field in fields(self) if getattr(self, field.name) is not None]

    def to_tuple(self):
        """The fields that are set."""
        return tuple(getattr(self, name) for name in self.keys())

    def values(self):
        """The same under the name that dictionaries have for it."""
        return self.to_tuple()

    def items(self):
        """Pairs of name and value."""
        return list(zip(self.keys(), self.to_tuple(), strict=True))

    def get(self, name, default=None):
        """The field called `name`, or `default` where it is not set."""
        return dict(self.items()).get(name, default)

    def __getitem__(self, key):
        if not isinstance(key, str):
            return self.to_tuple()[key]
        if key not in self.keys() and key not in self.other_names:
            raise KeyError(f"{key}: this output holds {', '.join(self.keys())}")
        return getattr(self, key)

    def __setitem__(self, key, value):
        if key not in [field.name for field in fields(self)]:
            raise KeyError(f"{key}: this output has {', '.join(field.name for field in fields(self))}")
        setattr(self, key, value)

    def __contains__(self, name):
        return name in self.keys() or name in self.other_names

    def __iter__(self):
        return iter(self.keys())

    def __len__(self):
        return len(self.keys())


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
