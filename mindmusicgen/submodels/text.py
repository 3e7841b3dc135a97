"""The text encoder by itself."""

import mindspore as ms

from ..models.t5 import T5Encoder
from . import inputs
from .base import Submodel, returned, wants
from .forward import text_forward
from .outputs import BaseModelOutput


class T5EncoderModel(Submodel):
    """T5's encoder: token ids in, hidden states out.

    Args:
        config (transformers.T5Config): sizes of the encoder.
        dtype (mindspore.dtype): dtype of weights and activations; norms, softmax and `wo` stay in float32.

    Parameters are zeros until `initialise` or `from_pretrained` fills them. Follows transformers' `T5EncoderModel`.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    part = "text_encoder"

    def __init__(self, config, dtype=ms.float32):
        super().__init__(config, T5Encoder(config, dtype))

    def construct(
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
        output = call_text_encoder(
            self.text_encoder,
            self.config,
            input_ids,
            attention_mask,
            inputs_embeds,
            head_mask,
            **wants(self.config, output_attentions, output_hidden_states),
        )
        return returned(output, return_dict)


def call_text_encoder(encoder, config, input_ids, attention_mask, inputs_embeds, head_mask, **kept):
    """Check the arguments of a text encoder and run it.

    Args:
        encoder (T5Encoder): the network.
        config (transformers.T5Config): its config.
        input_ids, attention_mask, inputs_embeds, head_mask: see `T5EncoderModel.construct`.
        **kept: see `wants`.

    Returns:
        BaseModelOutput
    """
    inputs.exclusive(input_ids=input_ids, inputs_embeds=inputs_embeds)
    if inputs_embeds is None:
        x = encoder.shared(inputs.tokens("input_ids", input_ids, config.vocab_size))
    else:
        x = inputs.states("inputs_embeds", inputs_embeds, config.d_model).astype(encoder.shared.weight.dtype)
    mask = inputs.mask("attention_mask", attention_mask, x.shape[:2])
    factors = inputs.head_mask("head_mask", head_mask, config.num_layers, config.num_heads)
    last, hidden, weights = text_forward(encoder, x, mask, factors, **kept)
    return BaseModelOutput(last, hidden or None, weights or None)
