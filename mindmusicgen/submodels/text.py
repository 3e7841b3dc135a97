"""The text encoder, by itself and in a composite."""

from .. import arguments as checks
from ..models.t5 import parameter_count
from ..parts import TextEncoder
from ..runtime.callers import serialised
from .base import Submodel, passed_to, returned, wants
from .forward import text_forward
from .outputs import BaseModelOutput


@serialised
def call_text_encoder(
    encoder,
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
    config = encoder.config
    checks.exclusive(input_ids=input_ids, inputs_embeds=inputs_embeds)
    if inputs_embeds is None:
        x = encoder.shared(checks.tokens("input_ids", input_ids, config.vocab_size))
    else:
        x = checks.states("inputs_embeds", inputs_embeds, config.d_model).astype(encoder.shared.weight.dtype)
    mask = checks.mask("attention_mask", attention_mask, x.shape[:2])
    factors = checks.head_mask("head_mask", head_mask, config.num_layers, config.num_heads)
    kept = wants(output_attentions, output_hidden_states, config)
    last, hidden, weights = text_forward(encoder, x, mask, factors, **kept)
    return returned(BaseModelOutput(last, hidden or None, weights or None), return_dict, encoder.config)


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
    forward = construct = passed_to(call_text_encoder)

    @classmethod
    def leaves_out(cls, name):
        return name.startswith(("decoder.", "lm_head."))  # of a T5 folder: the other half
