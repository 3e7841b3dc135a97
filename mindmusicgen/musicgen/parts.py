"""MusicGen's decoder as a part of the whole model: pure for graphs, and called as transformers' MusicgenForCausalLM is.

The code of such calls is in `alone` and is loaded at the first one.
"""

import mindspore as ms
import numpy as np
from mindspore import Tensor

from .. import arguments as checks
from ..errors import InputError
from ..parts import Elsewhere
from ..torch_names import Habits
from . import delay_pattern
from .alone import arguments as decoder_checks
from .checkpoint.folder import default_generation_config
from .decoder import MusicgenDecoder

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
    """The network of `decoder` without heads, called as transformers' MusicgenModel is."""

    model_type = "musicgen_decoder"

    def __init__(self, config, dtype=ms.float32):
        super().__init__(config, dtype)
        del self.lm_heads

    forward = __call__ = Elsewhere("musicgen.alone.decoder", "call_states_decoder")


class LogitsDecoder(Decoder):
    """A decoder with heads, called as transformers' MusicgenForCausalLM is; graphs go on using `construct`."""

    model_type, alone = "musicgen_decoder", "MusicgenForCausalLM"  # of a config of its own, and its class by itself

    forward = __call__ = Elsewhere("musicgen.alone.decoder", "call_logits_decoder")
    generate = Elsewhere("musicgen.alone.decoder", "generate")


class TextDecoder(LogitsDecoder, MusicgenDecoder):
    """The network of `decoder`, called as transformers' MusicgenForCausalLM is."""
