"""What calls of MusicGen return."""

from dataclasses import dataclass

from mindspore import Tensor

from ..outputs import Output


@dataclass
class MusicgenMelodyOutputWithPast(Output):
    """Of the melody models and their decoder.

    Attributes:
        loss (Tensor): scalar, if labels were given.
        logits (Tensor): [B * K, P + T, V] float32; the prefix has logits too.
        past_key_values (tuple): for each layer (keys, values), [B, heads, length, d] each, the prefix counted.
        hidden_states (tuple[Tensor]): what enters each layer, then the normed last states, [B, P + T, D]; on request.
        attentions (tuple[Tensor]): [B, heads, P + T, positions known before + P + T] of each layer; on request.
        encoder_hidden_states (Tensor): the prefix, chroma and then text, [B, P, D]; of the whole model.
    """

    loss: Tensor = None
    logits: Tensor = None
    past_key_values: tuple = None
    hidden_states: tuple = None
    attentions: tuple = None
    encoder_hidden_states: Tensor = None


@dataclass
class MusicgenOutput(Output):
    """What `generate(..., return_dict_in_generate=True)` returns.

    Attributes:
        audio_values (Tensor): [B, channels, samples] float32.
        audio_codes (Tensor): [B, codebooks, frames] int32.
        seeds (tuple[int]): the seed of each prompt; giving them again gives the same codes again.
    """

    audio_values: Tensor = None
    audio_codes: Tensor = None
    seeds: tuple = None

    other_names = ("sequences",)

    @property
    def sequences(self):
        """transformers' name for `audio_values`."""
        return self.audio_values


@dataclass
class UnconditionalInputs(Output):
    """Arguments of `generate` for music without a prompt, to be passed with `**`.

    Attributes:
        encoder_outputs (tuple[Tensor]): zeros, [B, 1, text dim].
        attention_mask (Tensor): zeros, [B, 1].
        guidance_scale (float): 1.0, which is no guidance.
    """

    encoder_outputs: tuple = None
    attention_mask: Tensor = None
    guidance_scale: float = None
