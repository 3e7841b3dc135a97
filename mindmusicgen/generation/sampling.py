"""From logits to codes: guidance, temperature, top-k, top-p and the choice, as graph code without state.

The order is transformers': guidance, temperature, top-k, top-p, softmax, choice, every row on its own. All settings
are tensors, so one compiled graph serves every setting; greedy choice is top-k of 1 with a uniform of 0.
"""

import mindspore as ms
import numpy as np
from mindspore import ops

NEVER = -1e30  # a logit whose probability is exactly 0 in float32
# Temperatures: beyond these a logit of 1e5, far more than any model has, leaves what is called a logit here.
COLDEST, HOTTEST = 1e-18, 1e18
LEAST = 1e-30  # of top_p: at 0 not even the most likely code would be kept


def guide(logits, scale):
    """Classifier-free guidance on float32 logits.

    Args:
        logits (Tensor): [2B, K, V], the conditional rows first, then the null rows.
        scale (Tensor): one number, 1 keeps the conditional logits.

    Returns:
        null + (conditional - null) * scale, [B, K, V].

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    conditional, null = ops.split(logits, logits.shape[0] // 2, 0)
    return null + (conditional - null) * scale


def filter_logits(logits, temperature, top_k, top_p):
    """Scale by the temperature and suppress what top-k and top-p exclude.

    Args:
        logits (Tensor): [..., V] float32.
        temperature (Tensor): [1] float32, above 0.
        top_k (Tensor): [1] int32 in 1..V; codes equal to the k-th largest stay. V switches it off.
        top_p (Tensor): [1] float32; the most likely codes whose mass before them is below top_p stay, at
            least one. Anything above 1 switches it off.

    Returns:
        logits with excluded codes at NEVER, [..., V].

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    logits = logits / temperature
    ordered, _ = ops.topk(logits, logits.shape[-1])  # descending
    kth = ops.gather(ordered, top_k - 1, -1)
    inside = ordered >= kth
    probabilities = ops.softmax(ops.select(inside, ordered, ops.full_like(ordered, NEVER)), -1)
    mass_before = ops.cumsum(probabilities, -1) - probabilities
    inside = ops.logical_and(inside, mass_before < ops.maximum(top_p, LEAST))
    lowest = ops.select(inside, ordered, ops.full_like(ordered, -NEVER)).min(axis=-1, keepdims=True)
    return ops.select(logits >= lowest, logits, ops.full_like(logits, NEVER))


def choose(logits, uniforms):
    """Invert the cumulative distribution of softmax(logits).

    Args:
        logits (Tensor): [..., V] float32.
        uniforms (Tensor): [...] float32 in [0, 1), drawn by the caller.

    Returns:
        the first code whose cumulative probability exceeds the uniform, [...] int32.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    cumulative = ops.cumsum(ops.softmax(logits, -1), -1)
    target = uniforms.expand_dims(-1) * cumulative[..., -1:]
    codes = (cumulative <= target).astype(ms.float32).sum(axis=-1).astype(ms.int32)
    return ops.minimum(codes, logits.shape[-1] - 1)


class Uniforms:
    """Random numbers for a batch, drawn on the host so that every device and version makes the same choices.

    Args:
        seeds (Sequence[int]): one seed per row; a row's numbers depend on nothing else.
        num_codebooks (int): K.
    """

    def __init__(self, seeds, num_codebooks):
        self.generators, self.num_codebooks = [np.random.default_rng(seed) for seed in seeds], num_codebooks

    def draw(self, columns):
        """The next numbers, float32 in [0, 1), [columns, B, K]; in several calls the same as in one."""
        return np.stack([g.random((columns, self.num_codebooks), np.float32) for g in self.generators], axis=1)


class Zeros:
    """In place of `Uniforms` for greedy choice."""

    def __init__(self, seeds, num_codebooks):
        self.rows, self.num_codebooks = len(seeds), num_codebooks

    def draw(self, columns):
        return np.zeros((columns, self.rows, self.num_codebooks), np.float32)
