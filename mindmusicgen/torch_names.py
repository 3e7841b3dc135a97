"""What a torch module answers to, for cells: with its meaning, or a sentence that says what to write instead."""

import mindspore as ms
import numpy as np

from .errors import InputError
from .runtime import device as devices
from .runtime.callers import Single


class Habits(Single):
    """What a torch module answers to, for cells."""

    def forward(self, *arguments, **named):
        """The call itself under the name that torch has for it."""
        return self(*arguments, **named)

    @property
    def device(self):
        """Where it computes: CPU, or Ascend:0. Chosen for the whole process, by `from_pretrained(device=...)`."""
        target, number = devices.current()
        return target if target == "CPU" else f"{target}:{number or 0}"

    def eval(self):
        """Nothing changes: there is no dropout here. Returns the model."""
        self.set_train(False)
        return self

    def train(self, mode=True):
        """`set_train`: nothing changes in a call, there is no dropout here. Returns the model."""
        self.set_train(mode)
        return self

    def half(self):
        """The model, if it has float16; otherwise an InputError that says how it is opened so."""
        return self._of_dtype(ms.float16)

    def float(self):
        """The model, if it has float32; otherwise an InputError that says how it is opened so."""
        return self._of_dtype(ms.float32)

    def bfloat16(self):
        """The model, if it has bfloat16; otherwise an InputError that says how it is opened so."""
        return self._of_dtype(ms.bfloat16)

    def cpu(self):
        """The model, if it computes on the CPU; otherwise an InputError that says how it is opened there."""
        if devices.current()[0] != "CPU":
            raise InputError('the model is on Ascend, for the whole process; open it with device="CPU" in a new one')
        return self

    def cuda(self, device=None):
        """There is no CUDA here: an InputError."""
        raise InputError('MindSpore computes on a CPU or an Ascend NPU here; open the model with device="Ascend"')

    def _of_dtype(self, dtype):
        if self.dtype != dtype:
            name = str(dtype).lower()
            raise InputError(f'the model has {str(self.dtype).lower()}; open it with from_pretrained(dtype="{name}")')
        return self

    def parameters(self, recurse=True):
        """Its parameters, one after the other."""
        return iter(self.get_parameters(expand=recurse))

    def named_parameters(self, prefix="", recurse=True):
        """Pairs of name and parameter; the names are those of the fused layout."""
        return self.parameters_and_names(prefix, recurse)

    def num_parameters(self, only_trainable=False, exclude_embeddings=False):
        """How many numbers its parameters hold.

        Args:
            only_trainable (bool): leave out what is frozen.
            exclude_embeddings (bool): leave out the tables that tokens and codes are looked up in.
        """
        tables = ("shared.weight", "embed_tokens.weight") if exclude_embeddings else ()
        counted = [p for name, p in self.parameters_and_names() if not name.endswith(tables or " ")]
        return sum(int(np.prod(p.shape)) for p in counted if p.requires_grad or not only_trainable)

    def requires_grad_(self, requires_grad=True):
        """Train its parameters, or leave them as they are. Returns the model."""
        for parameter in self.get_parameters():
            parameter.requires_grad = requires_grad
        return self

    @classmethod
    def can_generate(cls):
        """Whether it has a `generate` of its own."""
        return hasattr(cls, "generate")


class CompositeHabits(Habits):
    """What a torch module answers to, for a model of three networks."""

    def get_input_embeddings(self):
        """The table of the text's tokens."""
        return self.text_encoder.get_input_embeddings()

    def get_output_embeddings(self):
        """The codebooks' heads, one under the other."""
        return self.decoder.get_output_embeddings()

    def get_text_encoder(self):
        """The text encoder."""
        return self.text_encoder

    get_encoder = get_text_encoder

    def get_audio_encoder(self):
        """The codec."""
        return self.audio_encoder

    def get_decoder(self):
        """The decoder."""
        return self.decoder

    def freeze_text_encoder(self):
        """Leave the text encoder as it is in training."""
        self.text_encoder.requires_grad_(False)

    def freeze_audio_encoder(self):
        """Leave the codec as it is in training."""
        self.audio_encoder.requires_grad_(False)

    def resize_token_embeddings(self, *args, **kwargs):
        """There is no meaning in it, as in transformers: an InputError."""
        raise InputError("token embeddings are not resized; open T5EncoderModel, or a config with another vocab_size")
