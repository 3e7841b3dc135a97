"""A call of the whole model: text and codes in, logits and loss out."""

import inspect

import mindspore as ms
import numpy as np
from mindspore import Tensor

from ... import arguments as checks
from ...errors import InputError
from ...habits import nearest
from ...runtime.callers import serialised
from ...sound.samples import as_batch
from ...submodels.base import returned, wants
from ...submodels.outputs import BaseModelOutput, Seq2SeqLMOutput
from ..inputs import refuse_melody
from . import arguments as decoder_checks
from .decoder import call_decoder, shift_right, with_heads

DECODER_NAMES = ("decoder_input_ids", "decoder_inputs_embeds", "decoder_attention_mask", "decoder_head_mask")


@serialised
def forward(
    model,
    input_ids=None,
    attention_mask=None,
    input_values=None,
    padding_mask=None,
    decoder_input_ids=None,
    decoder_attention_mask=None,
    encoder_outputs=None,
    past_key_values=None,
    inputs_embeds=None,
    decoder_inputs_embeds=None,
    labels=None,
    use_cache=None,
    output_attentions=None,
    output_hidden_states=None,
    return_dict=None,
    head_mask=None,
    decoder_head_mask=None,
    cross_attn_head_mask=None,
    cache=None,
    **others,
):
    """Logits of the column after each column, and the loss. The order of the arguments is transformers'.

    Args:
        model (MusicgenForConditionalGeneration): the three networks.
        input_ids (Tensor): prompt tokens, [B, S] int32.
        attention_mask (Tensor): [B, S], 1 for tokens, 0 for padding; ones if not given.
        input_values (Tensor): audio [B, C, N] whose codes serve where neither codes nor labels are given.
        padding_mask (Tensor): [B, N], 0 where input_values are padding.
        decoder_input_ids (Tensor): codes, [B * K, T] int32; with `past_key_values` only the new columns.
        decoder_attention_mask (Tensor): [B, earlier columns + T], 0 for columns that no column may look at.
        encoder_outputs (tuple | BaseModelOutput): text states [B, S, text dim] first, in place of input_ids.
        past_key_values (tuple): `past_key_values` of the call with the earlier columns.
        inputs_embeds (Tensor): token embeddings in place of input_ids, [B, S, text dim].
        decoder_inputs_embeds (Tensor): the codebooks' embeddings, summed, in place of codes, [B, T, D].
        labels (Tensor): [B, T, K]; -100 and the padding code do not count. Without codes they are also the input,
            shifted right behind the start code. They are not delayed here: that is the caller's to do.
        use_cache (bool): return `past_key_values`; the decoder's config decides for None.
        output_attentions (bool): return the attention weights of both networks.
        output_hidden_states (bool): return what enters each layer of both networks, and their last states.
        return_dict (bool): False returns a tuple.
        head_mask (Tensor): factors of the text encoder's attention weights, [layers, heads].
        decoder_head_mask (Tensor): factors of the decoder's self-attention weights, [layers, heads].
        cross_attn_head_mask (Tensor): factors of the decoder's cross-attention weights, [layers, heads].
        cache (tuple): transformers 5's name for `past_key_values`.

    Returns:
        Seq2SeqLMOutput

    Raises:
        InputError: naming the argument, what is wrong and what would be right.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    refuse_melody(others)
    others.pop("input_features", None)
    refuse_others(others)
    config = model.config.decoder
    checks.belongs("input_values", input_values is not None, padding_mask=padding_mask)
    asked = output_attentions, output_hidden_states
    kept_text = wants(*asked, model.config, model.config.text_encoder)
    text = _text(model, input_ids, attention_mask, encoder_outputs, inputs_embeds, head_mask, kept_text)
    mask = checks.mask("attention_mask", attention_mask, text.last_hidden_state.shape[:2])
    wanted = None if labels is None else decoder_checks.labels(labels, config)
    if decoder_input_ids is None and decoder_inputs_embeds is None:
        if wanted is not None:
            decoder_input_ids = shift_right(wanted, model.pad_code)
        elif input_values is not None:
            decoder_input_ids = _codes_of(model, input_values, padding_mask)
    decoded = call_decoder(
        model.decoder,
        config,
        input_ids=decoder_input_ids,
        attention_mask=decoder_attention_mask,
        encoder_hidden_states=model.conditioner(text.last_hidden_state, mask),
        encoder_attention_mask=mask,
        head_mask=decoder_head_mask,
        cross_attn_head_mask=cross_attn_head_mask,
        past_key_values=past_key_values if cache is None else cache,
        inputs_embeds=decoder_inputs_embeds,
        use_cache=use_cache,
        names=DECODER_NAMES,
        **wants(*asked, model.config, config),
    )
    out = with_heads(model.decoder, decoded, wanted)
    return returned(
        Seq2SeqLMOutput(
            loss=out.loss,
            logits=out.logits,
            past_key_values=out.past_key_values,
            decoder_hidden_states=out.hidden_states,
            decoder_attentions=out.attentions,
            cross_attentions=out.cross_attentions,
            encoder_last_hidden_state=text.last_hidden_state,
            encoder_hidden_states=text.hidden_states,
            encoder_attentions=text.attentions,
        ),
        return_dict,
        model.config,
    )


def _text(model, input_ids, attention_mask, encoder_outputs, inputs_embeds, head_mask, kept):
    """The text encoder's output: computed, or what was given."""
    config = model.config.text_encoder
    checks.exclusive(input_ids=input_ids, inputs_embeds=inputs_embeds, encoder_outputs=encoder_outputs)
    if encoder_outputs is None:
        keep = {"output_attentions": kept["keep_weights"], "output_hidden_states": kept["keep_hidden"]}
        return model.text_encoder(input_ids, attention_mask, head_mask, inputs_embeds, **keep, return_dict=True)
    if head_mask is not None:
        raise InputError("head_mask is the text encoder's, which encoder_outputs replaces; decoder_head_mask may fit")
    states = checks.states("encoder_outputs[0]", encoder_outputs[0], config.d_model)
    if isinstance(encoder_outputs, (tuple, list)):
        return BaseModelOutput(states, *encoder_outputs[1:3])
    hidden, weights = (getattr(encoder_outputs, name, None) for name in ("hidden_states", "attentions"))
    return BaseModelOutput(states, hidden, weights)


def _codes_of(model, input_values, padding_mask):
    """Codes of audio as the decoder takes them, [B * K, frames]; mono audio serves both sides of a stereo model."""
    audio = as_batch("input_values", input_values)
    if padding_mask is not None:
        mask = checks.mask("padding_mask", padding_mask, (audio.shape[0], audio.shape[2])).asnumpy()
        audio = audio * mask[:, None].astype(np.float32)
    channels = model.config.decoder.audio_channels
    if audio.shape[1] == 1 < channels:
        audio = np.repeat(audio, channels, axis=1)
    codes = model.encode(Tensor(audio))
    return codes.reshape(-1, codes.shape[2]).astype(ms.int32)


def refuse_others(others):
    """Refuse arguments of a call that there are not.

    Raises:
        InputError: naming one, and what it may have meant.
    """
    for name in others:
        raise InputError(f"a call of the model does not take {name}{nearest(name, ARGUMENTS)}")


ARGUMENTS = tuple(inspect.signature(forward).parameters)[1:-1]
