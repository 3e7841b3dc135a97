"""MusicGen that follows a melody: `MusicgenMelodyForConditionalGeneration`.

The whole of `musicgen.model` with another decoder: text and chroma stand as a prefix in front of the codes. Section 2.3
of "Simple and Controllable Music Generation" (Copet et al., 2023); follows transformers' `modeling_musicgen_melody.py`.
"""

from mindspore import ops

from ...parts import Elsewhere
from ..model import MusicgenForConditionalGeneration
from . import inputs as melody_inputs
from .decode_loop import MelodyGenerator
from .decoder import MelodyConditioner, fit_chroma
from .parts import MelodyDecoder


class MusicgenMelodyForConditionalGeneration(MusicgenForConditionalGeneration):
    """Text and melody to music: T5 encoder, MusicGen decoder without cross-attention, and EnCodec codec.

    Args:
        config (transformers.MusicgenMelodyConfig): sizes of the three networks, chroma_length and num_chroma.
        decoder (MusicgenMelodyForCausalLM): becomes part of this model; None makes one with random weights.
        text_encoder, audio_encoder, dtype, generation_config, empty: as in `MusicgenForConditionalGeneration`.

    `from_pretrained`, `save_pretrained`, `encode`, `decode` and `stop` are those of
    `MusicgenForConditionalGeneration`.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    model_type = "musicgen_melody"
    generator = MelodyGenerator
    decoder_class = MelodyDecoder
    forward = construct = Elsewhere("musicgen.alone.melody", "forward")

    @staticmethod
    def _conditioner(config, dtype):
        return MelodyConditioner(config.text_encoder.hidden_size, config.num_chroma, config.decoder.hidden_size, dtype)

    def _prepare(self, text, audio, generation_config, arguments, seed):
        return melody_inputs.prepare(self, text, audio, generation_config, arguments, seed)

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
        prefix = self.conditioner(self.text_encoder.construct(input_ids, attention_mask), attention_mask, chroma)
        columns = decoder_input_ids.shape[-1]
        ids = decoder_input_ids.reshape(-1, self.config.decoder.num_codebooks, columns)
        x, _ = self.decoder.construct(ops.concat((prefix, self.decoder.embed_tokens(ids)), 1))
        return self.decoder.logits(x).reshape(-1, x.shape[1], self.config.decoder.vocab_size)

    def generate(
        self,
        input_ids=None,
        attention_mask=None,
        input_features=None,
        *,
        return_dict_in_generate=None,
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
            return_dict_in_generate (bool): return a `MusicgenOutput` in place of the audio alone; the generation
                config decides for None.
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
