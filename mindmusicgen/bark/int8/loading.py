"""Opening a Bark whose stages' weights are rounded to 8 bits."""

from ...checkpoint.rounding import rounding
from ...models.quantized import say_expanded
from ...ops import quantized as quantized_ops
from ..config import STAGES


def empty_model(kind, config, generation_config, quantization):
    """A model whose weights are to be rounded; where the kernels cannot run, one that computes in float32 with them.

    Args:
        kind (type): BarkModel.
        config, generation_config: as it takes them.
        quantization (str): "int8".

    Returns:
        BarkModel, and what `huggingface.load` takes as `stores`.
    """
    reason = quantized_ops.why_not()
    if reason:
        say_expanded(reason)
    made = kind(config, generation_config=generation_config, empty=True, quantization=None if reason else quantization)
    return made, rounding(made, {f"{stage}.": getattr(made, stage) for stage in STAGES})
