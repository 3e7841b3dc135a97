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
from ...torch_names import Habits
from .. import delay_pattern
from ..checkpoint import names
from ..checkpoint.folder import default_generation_config, load_generation_config
from ..checkpoint.sizes import step_weights
from ..decoder import MusicgenDecoder, TextConditioner
from ..generator import CodeGenerator
from ..int8.decoder import QuantizedMusicgenDecoder
from ..loss import CodebookCrossEntropy
from ..streamer import to_streamer
from . import arguments as decoder_checks
from .forward import decoder_forward, head_logits
from .generate import request

FRAME_RATE = 50  # frames per second of the codec that every published MusicGen was trained with


class Decoder(Habits):
    """What decoders have in common that are called as transformers' are; comes before a network in its bases."""

    def __init__(self, config, dtype=ms.float32):
        super().__init__(config, dtype)
        self.config, self.frame_rate, self._generator = config, FRAME_RATE, None
        self.generation_config = default_generation_config(config)

    @property
    def pad_code(self):
        """The start and padding code."""
        code = self.config.bos_token_id
        code = self.config.vocab_size if code is None else code
        if not 0 <= code <= self.config.vocab_size:
            raise InputError(f"bos_token_id is {code}; expected 0 to {self.config.vocab_size}")
        return code

    def get_input_embeddings(self):
        """The codebooks' tables, one under the other; transformers has a list of them."""
        return self.embed_tokens

    def get_output_embeddings(self):
        """The codebooks' heads, one under the other; transformers has a list of them."""
        return self.lm_heads

    def build_delay_pattern_mask(self, input_ids, pad_token_id, max_length=None):
        """The delay pattern: the columns that are known, and what each column must hold.

        Args:
            input_ids (Tensor): the start code and codes behind it, without delay, [B * K, T].
            pad_token_id (int): the padding code.
            max_length (int): columns in all; None for the generation config's.

        Returns:
            Tensor: the known columns, [B * K, n] int32; Tensor: the pattern, [B * K, max_length], -1 where it is free.
        """
        length = self.generation_config.max_length if max_length is None else max_length
        books, channels = self.config.num_codebooks, self.config.audio_channels
        known = decoder_checks.codes("input_ids", input_ids, self.config).asnumpy()
        if not delay_pattern.is_delayed(length, books, channels):
            free = np.full((len(known) * books, length), delay_pattern.FREE, np.int32)
            return Tensor(known.reshape(len(free), -1)), Tensor(free)
        pattern, start = delay_pattern.build_pattern(known[:, :, 1:], length, pad_token_id, channels)
        pattern = pattern.reshape(-1, length)
        return Tensor(pattern[:, :start].copy()), Tensor(pattern)

    @staticmethod
    def apply_delay_pattern_mask(input_ids, decoder_pad_token_mask):
        """Codes [B * K, T] with what the first T columns of a pattern hold in the places that are not free."""
        codes, pattern = (checks.as_whole("input_ids", value, 2) for value in (input_ids, decoder_pad_token_mask))
        pattern = pattern[:, : codes.shape[1]]
        return Tensor(np.where(pattern == delay_pattern.FREE, codes, pattern).astype(np.int32))


class StatesDecoder(Decoder, MusicgenDecoder):
    """The decoder of `models.musicgen` without heads, called as transformers' MusicgenModel is."""

    model_type = "musicgen_decoder"

    def __init__(self, config, dtype=ms.float32):
        super().__init__(config, dtype)
        del self.lm_heads

    @serialised
    def forward(
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
            self,
            self.config,
            input_ids=input_ids,
            attention_mask=attention_mask,
            encoder_hidden_states=encoder_hidden_states,
            encoder_attention_mask=encoder_attention_mask,
            head_mask=head_mask,
            cross_attn_head_mask=cross_attn_head_mask,
            past_key_values=past_key_values if cache is None else cache,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **wants(output_attentions, output_hidden_states, self.config),
        )
        return returned(output, return_dict, self.config)

    __call__ = forward


class LogitsDecoder(Decoder):
    """A decoder with heads, called as transformers' MusicgenForCausalLM is; graphs go on using `construct`."""

    model_type, alone = "musicgen_decoder", "MusicgenForCausalLM"  # of a config of its own, and its class by itself

    @serialised
    def forward(
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
        wanted = None if labels is None else decoder_checks.labels(labels, self.config)
        if wanted is not None and input_ids is None and inputs_embeds is None:
            input_ids = shift_right(wanted, self.pad_code)
        output = call_decoder(
            self,
            self.config,
            input_ids=input_ids,
            attention_mask=attention_mask,
            encoder_hidden_states=encoder_hidden_states,
            encoder_attention_mask=encoder_attention_mask,
            head_mask=head_mask,
            cross_attn_head_mask=cross_attn_head_mask,
            past_key_values=past_key_values if cache is None else cache,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **wants(output_attentions, output_hidden_states, self.config),
        )
        return returned(with_heads(self, output, wanted), return_dict, self.config)

    __call__ = forward

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
        defaults, text = generation_config or self.generation_config, (encoder_hidden_states, encoder_attention_mask)
        made = []
        with alone() as interrupts:
            asked = request(self.config, self.frame_rate, defaults, self.pad_code, inputs, *text, seed, arguments)
            if self._generator is None:
                conditioner = TextConditioner(self.config.hidden_size, self.config.hidden_size, self.dtype)
                self._generator = CodeGenerator(self, conditioner, self.config)
            codes = self._generator.codes(asked, self.pad_code, self.frame_rate, progress)
            for fresh in to_streamer(streamer, codes, self.pad_code, self.config.audio_channels):
                interrupts.check()
                made.append(fresh)
        return Tensor(np.concatenate(made, axis=2))


class TextDecoder(LogitsDecoder, MusicgenDecoder):
    """The decoder of `models.musicgen`."""


class QuantizedDecoder(LogitsDecoder, QuantizedMusicgenDecoder):
    """The decoder of `models.quantized`."""


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
    forward = construct = passed_to(StatesDecoder.forward)

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
    forward = construct = passed_to(LogitsDecoder.forward)
    generate = passed_to(LogitsDecoder.generate)


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
