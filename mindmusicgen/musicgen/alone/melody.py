"""The melody models' decoder, by itself and in a composite, and a call of the whole model.

The decoder reads what it is to follow as a prefix: `encoder_hidden_states` stand in front of the codes.
"""

import functools

from mindspore import Tensor, ops

from ... import arguments as checks
from ...errors import InputError
from ...runtime.callers import serialised
from ...submodels.base import passed_to, returned, wants
from ...submodels.outputs import BaseModelOutputWithPast
from ..checkpoint.sizes import step_weights
from ..melody import inputs as melody_inputs
from ..melody.decoder import fit_chroma
from ..melody.parts import MelodyDecoder, MelodyStatesDecoder
from ..outputs import MusicgenMelodyOutputWithPast
from . import arguments as decoder_checks
from .call import refuse_others
from .decoder import CausalLM, DecoderAlone, logits_and_loss, shift_right
from .forward import decoder_forward


@serialised
def call_melody_states(
    decoder,
    input_ids=None,
    attention_mask=None,
    encoder_hidden_states=None,
    encoder_attention_mask=None,
    head_mask=None,
    past_key_values=None,
    inputs_embeds=None,
    use_cache=None,
    output_attentions=None,
    output_hidden_states=None,
    return_dict=None,
    cache_position=None,
    cache=None,
):
    """Hidden states of a prefix and codes; the arguments are those of `MusicgenMelodyForCausalLM.forward`.

    Returns:
        BaseModelOutputWithPast

    Raises:
        InputError: naming the argument, what is wrong and what would be right.
    """
    ids = (input_ids, inputs_embeds, attention_mask, head_mask)
    prefix = (encoder_hidden_states, encoder_attention_mask)
    kept = wants(output_attentions, output_hidden_states, decoder.config)
    past_key_values = past_key_values if cache is None else cache
    decoded = call_melody_decoder(decoder, *ids, *prefix, past_key_values, use_cache, kept)
    return returned(decoded, return_dict, decoder.config)


@serialised
def call_melody_logits(
    decoder,
    input_ids=None,
    attention_mask=None,
    encoder_hidden_states=None,
    encoder_attention_mask=None,
    head_mask=None,
    past_key_values=None,
    inputs_embeds=None,
    use_cache=None,
    output_attentions=None,
    output_hidden_states=None,
    return_dict=None,
    labels=None,
    cache_position=None,
    cache=None,
):
    """Logits of the column after each position of a prefix and codes, and the loss of the codes.

    Args:
        input_ids (Tensor): codes, [B * K, T] int32; with `past_key_values` only the new columns.
        attention_mask (Tensor): [B, T], 0 for columns that nothing may look at; with `past_key_values`, [B, all
            positions before + T].
        encoder_hidden_states (Tensor): the prefix, chroma and text as wide as the decoder, [B, P, D]. It is in
            `past_key_values` already, so a call with these leaves it out.
        encoder_attention_mask (Tensor): [B, P], 0 for positions of the prefix that nothing may look at.
        head_mask (Tensor): factors of the attention weights, [layers, heads].
        past_key_values (tuple): `past_key_values` of the call with the earlier columns.
        inputs_embeds (Tensor): the codebooks' embeddings, summed, in place of input_ids, [B, T, D].
        use_cache (bool): return `past_key_values`; the config decides for None.
        output_attentions (bool): return the attention weights.
        output_hidden_states (bool): return what enters each layer, and the last states.
        return_dict (bool): False returns a tuple.
        labels (Tensor): [B, T, K]; -100 and the padding code do not count. Without input_ids they are also the
            input, shifted right behind the start code. They are not delayed here: that is the caller's to do.
        cache_position (Tensor): not used, `past_key_values` tells where the columns lie.
        cache (tuple): transformers 5's name for `past_key_values`.

    Returns:
        MusicgenMelodyOutputWithPast

    Raises:
        InputError: naming the argument, what is wrong and what would be right.
    """
    wanted = None if labels is None else decoder_checks.labels(labels, decoder.config)
    if wanted is not None and input_ids is None and inputs_embeds is None:
        input_ids = shift_right(wanted, decoder.pad_code)
    ids = (input_ids, inputs_embeds, attention_mask, head_mask)
    prefix = (encoder_hidden_states, encoder_attention_mask)
    kept = wants(output_attentions, output_hidden_states, decoder.config)
    past_key_values = past_key_values if cache is None else cache
    decoded = call_melody_decoder(decoder, *ids, *prefix, past_key_values, use_cache, kept)
    return returned(_with_heads(decoder, decoded, wanted), return_dict, decoder.config)


class MusicgenMelodyModel(DecoderAlone):
    """The melody models' decoder without heads: a prefix and codes in, hidden states out.

    Args:
        config (transformers.MusicgenMelodyDecoderConfig): sizes of the decoder.
        dtype (mindspore.dtype): dtype of weights and activations.
        empty (bool): leave the parameters zeros in place of random weights, for a checkpoint to fill.

    Follows transformers' `MusicgenMelodyModel`.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    model_type, network = "musicgen_melody_decoder", MelodyStatesDecoder
    count = staticmethod(functools.partial(step_weights, melody=True))
    forward = construct = passed_to(call_melody_states)

    @classmethod
    def leaves_out(cls, name):
        return "lm_heads." in name


class MusicgenMelodyForCausalLM(CausalLM):
    """The melody models' decoder with its heads: a prefix and codes in, logits out.

    Args:
        config (transformers.MusicgenMelodyDecoderConfig): sizes of the decoder.
        dtype (mindspore.dtype): dtype of weights and activations; logits are always float32.
        generation_config (transformers.GenerationConfig): kept beside the weights.
        empty (bool): leave the parameters zeros in place of random weights, for a checkpoint to fill.

    Follows transformers' `MusicgenMelodyForCausalLM`.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    model_type, network = "musicgen_melody_decoder", MelodyDecoder
    count = staticmethod(functools.partial(step_weights, melody=True))
    forward = construct = passed_to(call_melody_logits)
    generate = passed_to(MelodyDecoder.generate)


def call_melody_decoder(
    decoder,
    input_ids,
    inputs_embeds,
    attention_mask,
    head_mask,
    prefix,
    prefix_mask,
    past_key_values,
    use_cache,
    kept,
    names=("input_ids", "inputs_embeds", "attention_mask", "head_mask"),
):
    """Check the arguments of a melody decoder and run it; see `MusicgenMelodyForCausalLM.forward`.

    Args:
        decoder (MelodyDecoder): the network, with or without heads, and its config.
        prefix, prefix_mask: `encoder_hidden_states` and `encoder_attention_mask`.
        kept (dict): see `wants`.
        names (Sequence[str]): what the caller calls four of the arguments, for errors.

    Returns:
        BaseModelOutputWithPast
    """
    config = decoder.config
    checks.exclusive(**{names[0]: input_ids, names[1]: inputs_embeds})
    if inputs_embeds is None:
        x = decoder.embed_tokens(decoder_checks.codes(names[0], input_ids, config))
    else:
        x = checks.states(names[1], inputs_embeds, config.hidden_size)
    rows, columns, _ = x.shape
    past = decoder_checks.past(past_key_values, config, rows)
    before = 0 if past is None else past[0][0].shape[2]
    mask = checks.mask(names[2], attention_mask, (rows, before + columns))
    checks.belongs("encoder_hidden_states", prefix is not None, encoder_attention_mask=prefix_mask)
    if prefix is not None:
        prefix = checks.states("encoder_hidden_states", prefix, config.hidden_size)
        if prefix.shape[0] != rows:
            raise InputError(f"there are codes of {rows} pieces for {prefix.shape[0]} prompts")
        heard = checks.mask("encoder_attention_mask", prefix_mask, (rows, prefix.shape[1]))
        x, mask = ops.concat((prefix.astype(x.dtype), x), 1), ops.concat((heard, mask), 1)
    total = before + x.shape[1]
    if total > config.max_position_embeddings:
        raise InputError(
            f"text, melody and codes take {total} positions; this model has {config.max_position_embeddings}"
        )
    factors = checks.head_mask(names[3], head_mask, config.num_hidden_layers, config.num_attention_heads)
    last, hidden, weights, _, cache = decoder_forward(decoder, x, mask, past=past, head_mask=factors, **kept)
    cached = getattr(config, "use_cache", True) if use_cache is None else use_cache
    return BaseModelOutputWithPast(last, cache if cached else None, hidden or None, weights or None)


def _with_heads(decoder, output, labels, prefix=None):
    """Logits for hidden states, and the loss for labels [B, K, T] or None."""
    logits, loss = logits_and_loss(decoder, output.last_hidden_state, labels)
    kept = (output.past_key_values, output.hidden_states, output.attentions)
    return MusicgenMelodyOutputWithPast(loss, logits, *kept, prefix)


@serialised
def forward(
    model,
    input_ids=None,
    attention_mask=None,
    input_features=None,
    decoder_input_ids=None,
    decoder_attention_mask=None,
    past_key_values=None,
    encoder_hidden_states=None,
    inputs_embeds=None,
    decoder_inputs_embeds=None,
    labels=None,
    use_cache=None,
    output_attentions=None,
    output_hidden_states=None,
    return_dict=None,
    head_mask=None,
    decoder_head_mask=None,
    cache=None,
    **others,
):
    """Logits of the column after each position, and the loss. The order of the arguments is transformers'.

    Args:
        model (MusicgenMelodyForConditionalGeneration): the three networks.
        input_ids (Tensor): prompt tokens, [B, S] int32; None for no text.
        attention_mask (Tensor): [B, S], 1 for tokens, 0 for padding; ones if not given.
        input_features (Tensor): chroma from the processor, [B, frames, N]; None for no melody.
        decoder_input_ids (Tensor): codes, [B * K, T] int32; with `past_key_values` only the new columns.
        decoder_attention_mask (Tensor): [B, T], 0 for columns that nothing may look at; with `past_key_values`, [B, all
            positions before + T].
        past_key_values (tuple): `past_key_values` of the call with the earlier columns; holds text and melody too.
        encoder_hidden_states (Tensor): the prefix of an earlier call, [B, P, D], in place of text and melody.
        inputs_embeds (Tensor): token embeddings in place of input_ids, [B, S, text dim].
        decoder_inputs_embeds (Tensor): the codebooks' embeddings, summed, in place of codes, [B, T, D].
        labels (Tensor): [B, T, K]; -100 and the padding code do not count. Without codes they are also the input,
            shifted right behind the start code. They are not delayed here: that is the caller's to do.
        use_cache (bool): return `past_key_values`; the decoder's config decides for None.
        output_attentions (bool): return the attention weights of the decoder.
        output_hidden_states (bool): return what enters each layer of the decoder, and the last states.
        return_dict (bool): False returns a tuple.
        head_mask (Tensor): factors of the text encoder's attention weights, [layers, heads].
        decoder_head_mask (Tensor): factors of the decoder's attention weights, [layers, heads].
        cache (tuple): transformers 5's name for `past_key_values`.

    Returns:
        MusicgenMelodyOutputWithPast

    Raises:
        InputError: naming the argument, what is wrong and what would be right.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    refuse_others(others)
    config = model.config.decoder
    given = input_ids is not None or inputs_embeds is not None
    checks.belongs("input_ids or inputs_embeds", given, attention_mask=attention_mask)
    if encoder_hidden_states is not None and (given or input_features is not None):
        raise InputError("encoder_hidden_states holds text and melody already; give either it or the inputs")
    kept = wants(output_attentions, output_hidden_states, model.config, config)
    wanted = None if labels is None else decoder_checks.labels(labels, config)
    if wanted is not None and decoder_input_ids is None and decoder_inputs_embeds is None:
        decoder_input_ids = shift_right(wanted, model.pad_code)
    prefix = encoder_hidden_states
    if prefix is None:
        prefix = _prefix(model, input_ids, attention_mask, input_features, inputs_embeds, head_mask)
    decoded = call_melody_decoder(
        model.decoder,
        decoder_input_ids,
        decoder_inputs_embeds,
        decoder_attention_mask,
        decoder_head_mask,
        prefix,
        None,
        past_key_values if cache is None else cache,
        use_cache,
        kept,
        ("decoder_input_ids", "decoder_inputs_embeds", "decoder_attention_mask", "decoder_head_mask"),
    )
    return returned(_with_heads(model.decoder, decoded, wanted, prefix), return_dict, model.config)


def _prefix(model, input_ids, attention_mask, input_features, inputs_embeds, head_mask):
    """The prefix of checked arguments, [B, P, D]; None for neither text nor melody."""
    chroma = melody_inputs.checked_chroma(model.config, input_features)
    if input_ids is None and inputs_embeds is None:
        if chroma is None:
            return None
        heard = fit_chroma(Tensor(chroma), model.config.chroma_length)
        return model.conditioner.heard(heard)
    text = model.text_encoder(input_ids, attention_mask, head_mask, inputs_embeds, return_dict=True).last_hidden_state
    mask = checks.mask("attention_mask", attention_mask, text.shape[:2])
    if chroma is None:
        chroma = melody_inputs.null_chroma(text.shape[0], model.config.num_chroma)
    if len(chroma) != text.shape[0]:
        raise InputError(f"there are {len(chroma)} melodies for {text.shape[0]} prompts; give one each")
    return model.conditioner(text, mask, fit_chroma(Tensor(chroma), model.config.chroma_length))
