"""MusicGen that follows a melody: `MusicgenMelodyForConditionalGeneration`.

The composite of `composite` with another decoder: text and chroma stand as a prefix in front of the codes. Section 2.3
of "Simple and Controllable Music Generation" (Copet et al., 2023); follows transformers' `modeling_musicgen_melody.py`.
"""

from dataclasses import dataclass

import mindspore as ms
from mindspore import Tensor, ops

from .composite import MusicgenForConditionalGeneration
from .errors import InputError
from .generation import melody_inputs
from .generation.melody_loop import MelodyGenerator
from .models.musicgen_melody import MelodyConditioner, MusicgenMelodyDecoder, fit_chroma
from .submodels import inputs
from .submodels.base import returned
from .submodels.decoder import shift_right
from .submodels.outputs import Output
from .training.language_model import CodebookCrossEntropy


@dataclass
class MusicgenMelodyOutput(Output):
    """Of a call of the model.

    Attributes:
        loss (Tensor): scalar, if labels were given.
        logits (Tensor): [B * K, P + T, V] float32; the prefix has logits too.
        encoder_hidden_states (Tensor): the prefix, chroma and then text, [B, P, D].
    """

    loss: Tensor = None
    logits: Tensor = None
    encoder_hidden_states: Tensor = None


class MusicgenMelodyForConditionalGeneration(MusicgenForConditionalGeneration):
    """Text and melody to music: T5 encoder, MusicGen decoder without cross-attention, and EnCodec codec.

    Args:
        config (transformers.MusicgenMelodyConfig): sizes of the three networks, chroma_length and num_chroma.
        dtype (mindspore.dtype): dtype of text encoder and decoder, float32 or float16; logits, sampling and the
            codec are always float32.
        generation_config (transformers.GenerationConfig): defaults of `generate`.

    Parameters are zeros until `initialise` or `from_pretrained` fills them. `from_pretrained`, `save_pretrained`,
    `encode`, `decode` and `stop` are those of `MusicgenForConditionalGeneration`.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    model_type = "musicgen_melody"
    generator = MelodyGenerator

    def _decoding_parts(self, config, dtype):
        text_dim, dim = config.text_encoder.hidden_size, config.decoder.hidden_size
        conditioner = MelodyConditioner(text_dim, config.num_chroma, dim, dtype)
        return MusicgenMelodyDecoder(config.decoder, dtype), conditioner

    def _prepare(self, text, audio, generation_config, arguments, seed):
        return melody_inputs.prepare(self, text, audio, generation_config, arguments, seed)

    def construct(
        self,
        input_ids=None,
        attention_mask=None,
        input_features=None,
        decoder_input_ids=None,
        labels=None,
        encoder_hidden_states=None,
        return_dict=None,
    ):
        """Logits of the column after each column, and the loss.

        Args:
            input_ids (Tensor): prompt tokens, [B, S] int32; None for no text.
            attention_mask (Tensor): [B, S], 1 for tokens, 0 for padding; ones if not given.
            input_features (Tensor): chroma from the processor, [B, frames, N]; None for no melody.
            decoder_input_ids (Tensor): codes, [B * K, T] int32.
            labels (Tensor): [B, T, K]; -100 and the padding code do not count. Without codes they are also the input,
                shifted right behind the start code. They are not delayed here: that is the caller's to do.
            encoder_hidden_states (Tensor): the prefix of an earlier call, [B, P, D], in place of text and melody.
            return_dict (bool): False returns a tuple.

        Returns:
            MusicgenMelodyOutput

        Raises:
            InputError: naming the argument, what is wrong and what would be right.
        """
        decoder = self.config.decoder
        wanted = None if labels is None else inputs.labels(labels, decoder)
        if wanted is not None and decoder_input_ids is None:
            codes = shift_right(wanted, self.pad_code)
        else:
            inputs.exclusive(decoder_input_ids=decoder_input_ids)
            codes = inputs.codes("decoder_input_ids", decoder_input_ids, decoder)
        if encoder_hidden_states is None:
            prefix = self._prefix(input_ids, attention_mask, input_features, codes.shape[0])
        else:
            prefix = inputs.states("encoder_hidden_states", encoder_hidden_states, decoder.hidden_size)
        if prefix.shape[0] != codes.shape[0]:
            raise InputError(f"there are codes of {codes.shape[0]} pieces for {prefix.shape[0]} prompts")
        columns = prefix.shape[1] + codes.shape[2]
        if columns > decoder.max_position_embeddings:
            raise InputError(
                f"text, melody and codes take {columns} positions; this model has {decoder.max_position_embeddings}"
            )
        x, _ = self.decoder(ops.concat((prefix, self.decoder.embed_tokens(codes)), 1))
        logits, loss = self.decoder.logits(x), None
        if wanted is not None:
            if wanted.shape[2] > codes.shape[2] or wanted.shape[0] != codes.shape[0]:
                raise InputError(
                    f"labels has {wanted.shape[0]} rows of {wanted.shape[2]} columns; expected {codes.shape[0]} rows "
                    f"of at most {codes.shape[2]}"
                )
            last_columns = logits[:, :, columns - wanted.shape[2] :]
            loss = CodebookCrossEntropy(decoder.vocab_size)(last_columns, wanted).mean()
        logits = logits.reshape(-1, columns, decoder.vocab_size)
        return returned(MusicgenMelodyOutput(loss, logits, prefix), return_dict)

    def _prefix(self, input_ids, attention_mask, input_features, rows):
        """The prefix of checked arguments, [B, P, D]."""
        chroma = melody_inputs.checked_chroma(self.config, input_features)
        if input_ids is None:
            rows = rows if chroma is None else len(chroma)
            states = ops.zeros((rows, 1, self.config.text_encoder.hidden_size), self.dtype)
            mask = ops.zeros((rows, 1), ms.int32)
        else:
            ids = inputs.tokens("input_ids", input_ids, self.config.text_encoder.vocab_size)
            mask = inputs.mask("attention_mask", attention_mask, ids.shape)
            states = self.text_encoder(ids, mask)
        if chroma is None:
            chroma = melody_inputs.null_chroma(states.shape[0], self.config.num_chroma)
        if len(chroma) != states.shape[0]:
            raise InputError(f"there are {len(chroma)} melodies for {states.shape[0]} prompts; give one each")
        return self.conditioner(states, mask, fit_chroma(Tensor(chroma), self.config.chroma_length))

    def logits(self, input_ids, attention_mask, decoder_input_ids, input_features):
        """Logits for known codes and nothing else, by the networks that generate; compiles with `mindspore.jit`.

        Args:
            input_ids (Tensor): prompt tokens, [B, S] int32.
            attention_mask (Tensor): [B, S], 1 for tokens, 0 for padding.
            decoder_input_ids (Tensor): codes, [B * K, T] int32.
            input_features (Tensor): chroma, [B, frames, N].

        Returns:
            Tensor: float32 logits, [B * K, P + T, V]; the prefix of chroma and text has logits too.
        """
        chroma = fit_chroma(input_features, self.config.chroma_length)
        prefix = self.conditioner(self.text_encoder(input_ids, attention_mask), attention_mask, chroma)
        columns = decoder_input_ids.shape[-1]
        ids = decoder_input_ids.reshape(-1, self.config.decoder.num_codebooks, columns)
        x, _ = self.decoder(ops.concat((prefix, self.decoder.embed_tokens(ids)), 1))
        return self.decoder.logits(x).reshape(-1, x.shape[1], self.config.decoder.vocab_size)

    def generate(
        self,
        input_ids=None,
        attention_mask=None,
        input_features=None,
        *,
        return_dict_in_generate=False,
        **arguments,
    ):
        """Generate music for prompts, melodies, or both.

        The padding of shorter prompts in a batch is not masked: the model was trained so, and transformers does so too.
        A prompt therefore gives other music in a batch with a longer one than alone.

        Args:
            input_ids (Tensor): prompt tokens from the processor, [B, S].
            attention_mask (Tensor): [B, S], 1 for tokens, 0 for padding.
            input_features (Tensor): chroma of the melodies from the processor, [B, frames, 12], or [1, frames, 12] for
                one that all prompts share. A melody shorter than the 30 s that the model hears begins again; of a
                longer one the first window hears the beginning, and each further window what lies beside it.
            return_dict_in_generate (bool): return a `MusicgenOutput` in place of the audio alone.
            arguments: as in `MusicgenForConditionalGeneration.generate`. A negative prompt leads away from its words;
                the melody is led to all the same.

        Returns:
            Tensor of float32 audio, [B, channels, samples]; or a `MusicgenOutput`.

        Raises:
            InputError: naming the argument, what is wrong and what would be right.
            KeyboardInterrupt: if the user interrupts.
        """
        return super().generate(
            input_ids,
            attention_mask,
            return_dict_in_generate=return_dict_in_generate,
            input_features=input_features,
            **arguments,
        )

    def stream(self, input_ids=None, attention_mask=None, input_features=None, *, chunk_seconds=1.0, **arguments):
        """Generate music and hand out audio while the rest is still being made.

        Args:
            input_ids, attention_mask, input_features, arguments: as in `generate`. A prompt's audio comes out first.
            chunk_seconds (float): length of each chunk, 0.2 to 30; the last may be shorter.

        Yields:
            Tensor: float32 audio, [B, channels, samples]. The chunks joined are what `generate` returns, up to
            rounding.

        Raises:
            InputError: naming the argument, what is wrong and what would be right.
            KeyboardInterrupt: if the user interrupts.
        """
        return super().stream(
            input_ids, attention_mask, chunk_seconds=chunk_seconds, input_features=input_features, **arguments
        )
