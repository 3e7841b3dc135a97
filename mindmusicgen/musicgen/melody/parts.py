"""The melody models' decoder as a part of the whole model: pure for graphs, and called as transformers' is."""

import mindspore as ms

from ...errors import InputError
from ...parts import Elsewhere
from ..parts import Decoder
from .decoder import MusicgenMelodyDecoder


class MelodyStatesDecoder(Decoder, MusicgenMelodyDecoder):
    """The network of `melody.decoder` without heads, called as transformers' MusicgenMelodyModel is."""

    model_type = "musicgen_melody_decoder"

    def __init__(self, config, dtype=ms.float32):
        super().__init__(config, dtype)
        del self.lm_heads

    forward = __call__ = Elsewhere("musicgen.alone.melody", "call_melody_states")


class MelodyDecoder(Decoder, MusicgenMelodyDecoder):
    """The network of `melody.decoder`, called as transformers' MusicgenMelodyForCausalLM is."""

    model_type, alone = "musicgen_melody_decoder", "MusicgenMelodyForCausalLM"  # as in `LogitsDecoder`

    forward = __call__ = Elsewhere("musicgen.alone.melody", "call_melody_logits")

    def generate(self, *arguments, **named):
        """The melody models' decoder does not generate by itself: an InputError."""
        raise InputError("the decoder of a melody model does not generate alone; call generate of the whole model")
