"""The decoder, by itself and in a composite: `MusicgenModel` ends before the heads, `MusicgenForCausalLM` has them."""

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from ... import arguments as checks
from ...errors import InputError
from ...habits import refuse_unsupported
from ...runtime.callers import alone, serialised
from ...submodels.base import Submodel, passed_to, returned, wants
from ...submodels.outputs import BaseModelOutputWithPastAndCrossAttentions, CausalLMOutputWithCrossAttentions
from ..checkpoint import names
from ..checkpoint.folder import load_generation_config
from ..checkpoint.sizes import step_weights
from ..decoder import TextConditioner
from ..generator import CodeGenerator
from ..loss import CodebookCrossEntropy
from ..parts import Decoder, StatesDecoder, TextDecoder
from ..streamer import to_streamer
from . import arguments as decoder_checks
from .forward import decoder_forward, head_logits
from .generate import request


@serialised
def call_states_decoder(
    decoder,
    input_ids=None,
    attention_mask=None,
    encoder_hidden_states=None,
    encoder_attention_mask=None,
    head_mask=None,
    cross_attn_head_mask=None,
    past_key_values=None,
    inputs_embeds=None,
    use_cache=None,
    output_attentions=None,
    output_hidden_states=None,
    return_dict=None,
    cache_position=None,
    cache=None,
):
    """Hidden states of codes; the arguments are those of `MusicgenForCausalLM.forward`, without labels.

    Returns:
        BaseModelOutputWithPastAndCrossAttentions

    Raises:
        InputError: naming the argument, what is wrong and what would be right.
    """
    output = call_decoder(
        decoder,
        decoder.config,
        input_ids=input_ids,
        attention_mask=attention_mask,
        encoder_hidden_states=encoder_hidden_states,
        encoder_attention_mask=encoder_attention_mask,
        head_mask=head_mask,
        cross_attn_head_mask=cross_attn_head_mask,
        past_key_values=past_key_values if cache is None else cache,
        inputs_embeds=inputs_embeds,
        use_cache=use_cache,
        **wants(output_attentions, output_hidden_states, decoder.config),
    )
    return returned(output, return_dict, decoder.config)


@serialised
def call_logits_decoder(
    decoder,
    input_ids=None,
    attention_mask=None,
    encoder_hidden_states=None,
    encoder_attention_mask=None,
    head_mask=None,
    cross_attn_head_mask=None,
    past_key_values=None,
    inputs_embeds=None,
    labels=None,
    use_cache=None,
    output_attentions=None,
    output_hidden_states=None,
    return_dict=None,
    cache_position=None,
    cache=None,
):
    """Logits of the column after each column, and the loss.

    Args:
        input_ids (Tensor): codes, [B * K, T] int32; with `past_key_values` only the new columns.
        attention_mask (Tensor): [B, earlier columns + T], 0 for columns that no column may look at.
        encoder_hidden_states (Tensor): text as wide as the decoder, [B, S, D]; without it there is no
            cross-attention, which is the null prompt of guidance.
        encoder_attention_mask (Tensor): [B, S], 1 for tokens, 0 for padding.
        head_mask (Tensor): factors of the self-attention weights, [layers, heads].
        cross_attn_head_mask (Tensor): factors of the cross-attention weights, [layers, heads].
        past_key_values (tuple): `past_key_values` of the call with the earlier columns.
        inputs_embeds (Tensor): the codebooks' embeddings, summed, in place of input_ids, [B, T, D]. Each column
            gets its own position; transformers 4.57.6 and 5.23 give all of them the first one's.
        labels (Tensor): [B, T, K]; -100 and the padding code do not count. Without input_ids they are also the
            input, shifted right behind the start code. They are not delayed here: that is the caller's to do.
        use_cache (bool): return `past_key_values`; the config decides for None.
        output_attentions (bool): return the attention weights.
        output_hidden_states (bool): return what enters each layer, and the last states.
        return_dict (bool): False returns a tuple.
        cache_position (Tensor): not used, `past_key_values` tells where the columns lie.
        cache (tuple): transformers 5's name for `past_key_values`.

    Returns:
        CausalLMOutputWithCrossAttentions

    Raises:
        InputError: naming the argument, what is wrong and what would be right.
    """
    wanted = None if labels is None else decoder_checks.labels(labels, decoder.config)
    if wanted is not None and input_ids is None and inputs_embeds is None:
        input_ids = shift_right(wanted, decoder.pad_code)
    output = call_decoder(
        decoder,
        decoder.config,
        input_ids=input_ids,
        attention_mask=attention_mask,
        encoder_hidden_states=encoder_hidden_states,
        encoder_attention_mask=encoder_attention_mask,
        head_mask=head_mask,
        cross_attn_head_mask=cross_attn_head_mask,
        past_key_values=past_key_values if cache is None else cache,
        inputs_embeds=inputs_embeds,
        use_cache=use_cache,
        **wants(output_attentions, output_hidden_states, decoder.config),
    )
    return returned(with_heads(decoder, output, wanted), return_dict, decoder.config)


def generate(
    decoder,
    inputs=None,
    *,
    input_ids=None,
    encoder_hidden_states=None,
    encoder_attention_mask=None,
    generation_config=None,
    seed=None,
    progress=None,
    streamer=None,
    **arguments,
):
    """Generate codes; without text, music of no description.

    transformers 4.57.6 has this method and fails in it; here it works, and returns what its code is meant to: the
    delay undone and the start code removed.

    Args:
        inputs (Tensor): codes to continue, [B * K, frames] or [B, K, frames], with or without the start code;
            the start code alone, [B * K, 1], asks for B pieces. None is one piece, or one for each row of text.
        input_ids (Tensor): the same under the name that a call has for it.
        encoder_hidden_states (Tensor): text as wide as the decoder, [B, S, D]. With guidance null rows are put
            behind it, unless it has 2 B rows because `inputs` has B.
        encoder_attention_mask (Tensor): [B, S], 1 for tokens, 0 for padding.
        generation_config (transformers.GenerationConfig): in place of the model's own.
        seed (int | Sequence[int]): piece i uses seed + i, or its own of a list; None draws a fresh one.
        progress (bool): show a progress bar; None shows it in a terminal or notebook.
        streamer (transformers.BaseStreamer): is given the columns, see `MusicgenForConditionalGeneration.generate`.
        **arguments: those of the composite's `generate`, such as do_sample, guidance_scale and max_new_tokens.
            Guidance changes nothing where there is no text.

    Returns:
        Tensor: codes, [B, K, frames] int32; those to continue come first.

    Raises:
        InputError: naming the argument, what is wrong and what would be right.
    """
    refuse_unsupported(arguments)
    if inputs is not None and input_ids is not None:
        raise InputError("inputs and input_ids were both given; give one of them")
    inputs = input_ids if inputs is None else inputs
    defaults, text = generation_config or decoder.generation_config, (encoder_hidden_states, encoder_attention_mask)
    made = []
    with alone() as interrupts:
        asked = request(decoder.config, decoder.frame_rate, defaults, decoder.pad_code, inputs, *text, seed, arguments)
        if decoder._generator is None:
            conditioner = TextConditioner(decoder.config.hidden_size, decoder.config.hidden_size, decoder.dtype)
            decoder._generator = CodeGenerator(decoder, conditioner, decoder.config)
        codes = decoder._generator.codes(asked, decoder.pad_code, decoder.frame_rate, progress)
        for fresh in to_streamer(streamer, codes, decoder.pad_code, decoder.config.audio_channels):
            interrupts.check()
            made.append(fresh)
    return Tensor(np.concatenate(made, axis=2))


class DecoderAlone(Submodel):
    """What the decoders have in common when they are opened alone."""

    part, may_be_quantised = "decoder", True
    count = staticmethod(step_weights)

    def plan(self):
        return names.pieces(self)

    def own_names(self, tensors=()):
        tensors = tensors or (() if self.leaves_out("lm_heads.") else ("model.decoder.",))
        if not any(name.startswith("model.decoder.") for name in tensors):
            # Saved from transformers' MusicgenModel, which has no heads and one level less.
            return lambda name: name.removeprefix("decoder.").replace("model.decoder.", "decoder.", 1)
        return super().own_names(tensors)

    def without_meaning(self, source):
        return names.without_meaning(source, self.config.hidden_size)


class MusicgenModel(DecoderAlone):
    """The decoder without heads: codes in, hidden states out.

    Args:
        config (transformers.MusicgenDecoderConfig): sizes of the decoder.
        dtype (mindspore.dtype): dtype of weights and activations.
        empty (bool): leave the parameters zeros in place of random weights, for a checkpoint to fill.

    Follows transformers' `MusicgenModel`.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    model_type, network = "musicgen_decoder", StatesDecoder
    forward = construct = passed_to(call_states_decoder)

    @classmethod
    def leaves_out(cls, name):
        return "lm_heads." in name


class CausalLM(DecoderAlone):
    """What `MusicgenForCausalLM` and the melody models' have in common."""

    def __init__(self, config, dtype=ms.float32, generation_config=None, empty=False):
        super().__init__(config, dtype, empty)
        if generation_config is not None:
            self.generation_config = generation_config

    def learn_from(self, folder, composite):
        self.generation_config = load_generation_config(folder, self.config)
        if composite is not None:
            self.whole.frame_rate = composite.audio_encoder.frame_rate

    @property
    def generation_config(self):
        """Defaults of `generate`."""
        return self.whole.generation_config

    @generation_config.setter
    def generation_config(self, value):
        self.whole.generation_config = value

    @property
    def frame_rate(self):
        """Frames of codes per second of audio."""
        return self.whole.frame_rate

    @property
    def num_codebooks(self):
        """Rows of codes for each prompt."""
        return self.config.num_codebooks

    @property
    def pad_code(self):
        """The start and padding code."""
        return self.whole.pad_code

    @classmethod
    def can_generate(cls):
        """True."""
        return True

    get_output_embeddings = passed_to(Decoder.get_output_embeddings)
    build_delay_pattern_mask = passed_to(Decoder.build_delay_pattern_mask)
    apply_delay_pattern_mask = staticmethod(Decoder.apply_delay_pattern_mask)


class MusicgenForCausalLM(CausalLM):
    """The decoder with its heads: codes in, logits out, and `generate`.

    Args:
        config (transformers.MusicgenDecoderConfig): sizes of the decoder.
        dtype (mindspore.dtype): dtype of weights and activations; logits and sampling are always float32.
        generation_config (transformers.GenerationConfig): defaults of `generate`.
        empty (bool): leave the parameters zeros in place of random weights, for a checkpoint to fill.

    Follows transformers' `MusicgenForCausalLM`.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    model_type, network = "musicgen_decoder", TextDecoder
    forward = construct = passed_to(call_logits_decoder)
    generate = passed_to(generate)


def shift_right(labels, start):
    """Labels [B, K, T] -> the codes that they follow, [B, K, T]: the start code first, and where nothing counts."""
    rows, codebooks, columns = labels.shape
    first = ops.full((rows, codebooks, 1), start, dtype=ms.int32)
    shifted = ops.concat((first, labels), 2)[:, :, :columns]
    return ops.select(shifted < 0, ops.full_like(shifted, start), shifted)


def call_decoder(
    decoder,
    config,
    *,
    input_ids,
    attention_mask,
    encoder_hidden_states,
    encoder_attention_mask,
    head_mask,
    cross_attn_head_mask,
    past_key_values,
    inputs_embeds,
    use_cache,
    names=("input_ids", "inputs_embeds", "attention_mask", "head_mask"),
    **kept,
):
    """Check the arguments of a decoder and run it; see `MusicgenForCausalLM.construct`.

    Args:
        decoder (MusicgenDecoder): the network, with or without heads.
        config (transformers.MusicgenDecoderConfig): its config.
        names (Sequence[str]): what the caller calls four of the arguments, for errors.
        **kept: see `wants`.

    Returns:
        BaseModelOutputWithPastAndCrossAttentions
    """
    checks.exclusive(**{names[0]: input_ids, names[1]: inputs_embeds})
    if inputs_embeds is None:
        x = decoder.embed_tokens(decoder_checks.codes(names[0], input_ids, config))
    else:
        x = checks.states(names[1], inputs_embeds, config.hidden_size)
    rows, columns, _ = x.shape
    past = decoder_checks.past(past_key_values, config, rows)
    total = columns + (0 if past is None else past[0][0].shape[2])
    if total > config.max_position_embeddings:
        raise InputError(f"{names[0]} reaches column {total}; this model has {config.max_position_embeddings}")
    states, states_mask = encoder_hidden_states, None
    if states is not None:
        states = checks.states("encoder_hidden_states", states, config.hidden_size)
        if states.shape[0] != rows:
            raise InputError(f"encoder_hidden_states has {states.shape[0]} rows for {rows} prompts of codes")
    text = states.shape[1] if states is not None else past[0][2].shape[2] if past and len(past[0]) == 4 else 0
    checks.belongs(
        "encoder_hidden_states",
        text,
        encoder_attention_mask=encoder_attention_mask,
        cross_attn_head_mask=cross_attn_head_mask,
    )
    if text:
        states_mask = checks.mask("encoder_attention_mask", encoder_attention_mask, (rows, text))
    layers, heads = config.num_hidden_layers, config.num_attention_heads
    last, hidden, weights, cross_weights, cache = decoder_forward(
        decoder,
        x,
        checks.mask(names[2], attention_mask, (rows, total)),
        states,
        states_mask,
        past,
        checks.head_mask(names[3], head_mask, layers, heads),
        checks.head_mask("cross_attn_head_mask", cross_attn_head_mask, layers, heads),
        **kept,
    )
    cached = getattr(config, "use_cache", True) if use_cache is None else use_cache
    return BaseModelOutputWithPastAndCrossAttentions(
        last_hidden_state=last,
        past_key_values=cache if cached else None,
        hidden_states=hidden or None,
        attentions=weights or None,
        cross_attentions=cross_weights or None,
    )


def logits_and_loss(decoder, last, labels):
    """Logits [B * K, T, V] of last states [B, T, D]; the loss for labels [B, K, T], or None for None."""
    logits = head_logits(decoder, last)
    loss = None
    if labels is not None:
        if labels.shape[0] != logits.shape[0] or labels.shape[2] > logits.shape[2]:
            raise InputError(
                f"labels has {labels.shape[0]} rows of {labels.shape[2]} columns; expected {logits.shape[0]} rows of "
                f"at most {logits.shape[2]}, which is what the codes have"
            )
        last_columns = logits[:, :, logits.shape[2] - labels.shape[2] :]
        loss = CodebookCrossEntropy(decoder.vocab_size)(last_columns, labels).mean()
    rows, codebooks, columns, vocabulary = logits.shape
    return logits.reshape(rows * codebooks, columns, vocabulary), loss


def with_heads(decoder, output, labels):
    """The output with logits of a decoder's output, and the loss for labels [B, K, T] or None.

    Returns:
        CausalLMOutputWithCrossAttentions
    """
    logits, loss = logits_and_loss(decoder, output.last_hidden_state, labels)
    return CausalLMOutputWithCrossAttentions(
        loss=loss,
        logits=logits,
        past_key_values=output.past_key_values,
        hidden_states=output.hidden_states,
        attentions=output.attentions,
        cross_attentions=output.cross_attentions,
    )
