"""The text encoder, by itself and in a composite."""

import mindspore as ms

from .. import arguments as checks
from ..models.t5 import T5Encoder, parameter_count
from ..runtime.callers import serialised
from ..torch_names import Habits
from .base import Submodel, passed_to, returned, wants
from .forward import text_forward
from .outputs import BaseModelOutput


class TextEncoder(Habits, T5Encoder):
    """The network of `models.t5`, called as transformers' T5EncoderModel is; graphs go on using `construct`."""

    model_type = "t5"

    def __init__(self, config, dtype=ms.float32):
        super().__init__(config, dtype)
        self.config, self.dtype = config, dtype

    @serialised
    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        head_mask=None,
        inputs_embeds=None,
        output_attentions=None,
        output_hidden_states=None,
        return_dict=None,
    ):
        """Encode text.

        Args:
            input_ids (Tensor): tokens, [B, S] int32.
            attention_mask (Tensor): [B, S], 1 for tokens, 0 for padding; ones if not given.
            head_mask (Tensor): factors of the attention weights, [layers, heads].
            inputs_embeds (Tensor): embeddings in place of input_ids, [B, S, D].
            output_attentions (bool): return the attention weights.
            output_hidden_states (bool): return what enters each layer, and the last states.
            return_dict (bool): False returns a tuple.

        Returns:
            BaseModelOutput

        Raises:
            InputError: naming the argument, what is wrong and what would be right.
        """
        config = self.config
        checks.exclusive(input_ids=input_ids, inputs_embeds=inputs_embeds)
        if inputs_embeds is None:
            x = self.shared(checks.tokens("input_ids", input_ids, config.vocab_size))
        else:
            x = checks.states("inputs_embeds", inputs_embeds, config.d_model).astype(self.shared.weight.dtype)
        mask = checks.mask("attention_mask", attention_mask, x.shape[:2])
        factors = checks.head_mask("head_mask", head_mask, config.num_layers, config.num_heads)
        kept = wants(output_attentions, output_hidden_states, config)
        last, hidden, weights = text_forward(self, x, mask, factors, **kept)
        return returned(BaseModelOutput(last, hidden or None, weights or None), return_dict, self.config)

    __call__ = forward

    def get_input_embeddings(self):
        """The table of token embeddings."""
        return self.shared


class T5EncoderModel(Submodel):
    """T5's encoder: token ids in, hidden states out.

    Args:
        config (transformers.T5Config): sizes of the encoder.
        dtype (mindspore.dtype): dtype of weights and activations; norms, softmax and `wo` stay in float32.
        empty (bool): leave the parameters zeros in place of random weights, for a checkpoint to fill.

    Follows transformers' `T5EncoderModel`.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    part, model_type, network = "text_encoder", "t5", TextEncoder
    count = staticmethod(parameter_count)
    forward = construct = passed_to(TextEncoder.forward)

    @classmethod
    def leaves_out(cls, name):
        return name.startswith(("decoder.", "lm_head."))  # of a T5 folder: the other half
