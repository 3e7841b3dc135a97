"""The networks that families share, as parts of a whole model.

To graphs a part is a cell with a pure `construct`; to Python its call is that of transformers' module of the same name,
with checks, hidden states and attention weights. The code of such calls is in `submodels` and is loaded at the first
one: generation makes none.
"""

import importlib

import mindspore as ms

from .models.encodec import Encodec
from .models.t5 import T5Encoder
from .torch_names import Habits


class Elsewhere:
    """A method whose code lies in another module, which is loaded when the method is first asked for.

    Args:
        module (str): the module, below this package.
        name (str): of the function in it, whose first argument is the object.
        of_class (bool): whether it is the class instead.
    """

    def __init__(self, module, name, of_class=False):
        self.module, self.name, self.of_class = module, name, of_class

    def __get__(self, instance, owner=None):
        function = getattr(importlib.import_module(f"{__package__}.{self.module}"), self.name)
        return function.__get__(owner if self.of_class else instance, owner)


class TextEncoder(Habits, T5Encoder):
    """The network of `models.t5`, called as transformers' T5EncoderModel is; graphs go on using `construct`."""

    model_type = "t5"
    forward = __call__ = Elsewhere("submodels.text", "call_text_encoder")

    def __init__(self, config, dtype=ms.float32):
        super().__init__(config, dtype)
        self.config, self.dtype = config, dtype

    def get_input_embeddings(self):
        """The table of token embeddings."""
        return self.shared


class Codec(Habits, Encodec):
    """The network of `models.encodec`, called as transformers' EncodecModel is.

    Args:
        config (transformers.EncodecConfig): layout of the codec.
        dtype (mindspore.dtype): not used, the codec is always float32.
    """

    model_type = "encodec"
    encode, decode = Elsewhere("submodels.codec", "encode"), Elsewhere("submodels.codec", "decode")
    forward = construct = __call__ = Elsewhere("submodels.codec", "call_codec")

    def __init__(self, config, dtype=ms.float32):
        super().__init__(config)
        self.dtype = ms.float32
