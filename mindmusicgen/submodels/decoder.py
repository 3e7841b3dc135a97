"""The decoder by itself: `MusicgenModel` ends before the heads, `MusicgenForCausalLM` gives logits and generates."""

from types import SimpleNamespace

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from ..checkpoint import parts
from ..errors import InputError
from ..generation.decode_loop import TextConditioner
from ..generation.generator import CodeGenerator
from ..interrupt import interruptible
from ..models.musicgen import MusicgenDecoder
from ..training.language_model import CodebookCrossEntropy
from . import inputs
from .base import Submodel, returned, wants
from .forward import decoder_forward, head_logits
from .generate import request
from .outputs import BaseModelOutputWithPastAndCrossAttentions, CausalLMOutputWithCrossAttentions

FRAME_RATE = 50  # frames per second of the codec that every published MusicGen was trained with


class MusicgenModel(Submodel):
    """The decoder without heads: codes in, hidden states out.

    Args:
        config (transformers.MusicgenDecoderConfig): sizes of the decoder.
        dtype (mindspore.dtype): dtype of weights and activations.

    Parameters are zeros until `initialise` or `from_pretrained` fills them. Follows transformers' `MusicgenModel`.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    part = "decoder"

    def __init__(self, config, dtype=ms.float32):
        decoder = MusicgenDecoder(config, dtype)
        del decoder.lm_heads
        super().__init__(config, decoder)

    @classmethod
    def leaves_out(cls, name):
        return "lm_heads." in name

    def construct(
        self,
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
    ):
        """Hidden states of codes; the arguments are those of `MusicgenForCausalLM.construct`, without labels.

        Returns:
            BaseModelOutputWithPastAndCrossAttentions

        Raises:
            InputError: naming the argument, what is wrong and what would be right.
        """
        output = call_decoder(
            self.decoder,
            self.config,
            input_ids=input_ids,
            attention_mask=attention_mask,
            encoder_hidden_states=encoder_hidden_states,
            encoder_attention_mask=encoder_attention_mask,
            head_mask=head_mask,
            cross_attn_head_mask=cross_attn_head_mask,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **wants(self.config, output_attentions, output_hidden_states),
        )
        return returned(output, return_dict)


class MusicgenForCausalLM(Submodel):
    """The decoder with its heads: codes in, logits out, and `generate`.

    Args:
        config (transformers.MusicgenDecoderConfig): sizes of the decoder.
        dtype (mindspore.dtype): dtype of weights and activations; logits and sampling are always float32.
        generation_config (transformers.GenerationConfig): defaults of `generate`.

    Parameters are zeros until `initialise` or `from_pretrained` fills them. Follows transformers'
    `MusicgenForCausalLM`.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    part = "decoder"

    def __init__(self, config, dtype=ms.float32, generation_config=None):
        super().__init__(config, MusicgenDecoder(config, dtype))
        self.generation_config = generation_config or parts.default_generation_config(config)
        self.frame_rate = FRAME_RATE
        conditioner = TextConditioner(config.hidden_size, config.hidden_size, dtype)
        self._generator = CodeGenerator(self.decoder, conditioner, config)

    def learn_from(self, folder, composite):
        self.generation_config = parts.load_generation_config(folder, self.config)
        if composite is not None:
            self.frame_rate = composite.audio_encoder.frame_rate

    @property
    def num_codebooks(self):
        """Rows of codes for each prompt."""
        return self.config.num_codebooks

    @property
    def pad_code(self):
        """The start and padding code."""
        code = self.config.bos_token_id
        code = self.config.vocab_size if code is None else code
        if not 0 <= code <= self.config.vocab_size:
            raise InputError(f"bos_token_id is {code}; expected 0 to {self.config.vocab_size}")
        return code

    def construct(
        self,
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

        Returns:
            CausalLMOutputWithCrossAttentions

        Raises:
            InputError: naming the argument, what is wrong and what would be right.
        """
        wanted = None if labels is None else inputs.labels(labels, self.config)
        if wanted is not None and input_ids is None and inputs_embeds is None:
            input_ids = shift_right(wanted, self.pad_code)
        output = call_decoder(
            self.decoder,
            self.config,
            input_ids=input_ids,
            attention_mask=attention_mask,
            encoder_hidden_states=encoder_hidden_states,
            encoder_attention_mask=encoder_attention_mask,
            head_mask=head_mask,
            cross_attn_head_mask=cross_attn_head_mask,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **wants(self.config, output_attentions, output_hidden_states),
        )
        return returned(with_heads(self.decoder, output, wanted), return_dict)

    def generate(
        self,
        inputs=None,
        *,
        input_ids=None,
        encoder_hidden_states=None,
        encoder_attention_mask=None,
        generation_config=None,
        seed=None,
        progress=None,
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
            **arguments: those of the composite's `generate`, such as do_sample, guidance_scale and max_new_tokens.
                Guidance changes nothing where there is no text.

        Returns:
            Tensor: codes, [B, K, frames] int32; those to continue come first.

        Raises:
            InputError: naming the argument, what is wrong and what would be right.
        """
        if inputs is not None and input_ids is not None:
            raise InputError("inputs and input_ids were both given; give one of them")
        inputs = input_ids if inputs is None else inputs
        whole = SimpleNamespace(decoder=self.config, audio_encoder=SimpleNamespace(frame_rate=self.frame_rate))
        defaults, text = generation_config or self.generation_config, (encoder_hidden_states, encoder_attention_mask)
        asked = request(whole, defaults, self.pad_code, inputs, *text, seed, arguments)
        made = []
        with interruptible() as interrupts:
            for fresh in self._generator.codes(asked, self.pad_code, self.frame_rate, progress):
                interrupts.check()
                made.append(fresh)
        return Tensor(np.concatenate(made, axis=2))


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
    inputs.exclusive(**{names[0]: input_ids, names[1]: inputs_embeds})
    if inputs_embeds is None:
        x = decoder.embed_tokens(inputs.codes(names[0], input_ids, config))
    else:
        x = inputs.states(names[1], inputs_embeds, config.hidden_size)
    rows, columns, _ = x.shape
    past = inputs.past(past_key_values, config, rows)
    total = columns + (0 if past is None else past[0][0].shape[2])
    if total > config.max_position_embeddings:
        raise InputError(f"{names[0]} reaches column {total}; this model has {config.max_position_embeddings}")
    states, states_mask = encoder_hidden_states, None
    if states is not None:
        states = inputs.states("encoder_hidden_states", states, config.hidden_size)
        if states.shape[0] != rows:
            raise InputError(f"encoder_hidden_states has {states.shape[0]} rows for {rows} prompts of codes")
    text = states.shape[1] if states is not None else past[0][2].shape[2] if past and len(past[0]) == 4 else 0
    if text:
        states_mask = inputs.mask("encoder_attention_mask", encoder_attention_mask, (rows, text))
    layers, heads = config.num_hidden_layers, config.num_attention_heads
    last, hidden, weights, cross_weights, cache = decoder_forward(
        decoder,
        x,
        inputs.mask(names[2], attention_mask, (rows, total)),
        states,
        states_mask,
        past,
        inputs.head_mask(names[3], head_mask, layers, heads),
        inputs.head_mask("cross_attn_head_mask", cross_attn_head_mask, layers, heads),
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


def with_heads(decoder, output, labels):
    """Logits for hidden states, and the loss for labels [B, K, T] or None.

    Returns:
        CausalLMOutputWithCrossAttentions
    """
    logits = head_logits(decoder, output.last_hidden_state)
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
    return CausalLMOutputWithCrossAttentions(
        loss=loss,
        logits=logits.reshape(rows * codebooks, columns, vocabulary),
        past_key_values=output.past_key_values,
        hidden_states=output.hidden_states,
        attentions=output.attentions,
        cross_attentions=output.cross_attentions,
    )
