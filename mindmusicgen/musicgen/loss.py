"""The loss of predicted codes."""

import mindspore as ms
from mindspore import Tensor, nn, ops


class CodebookCrossEntropy(nn.Cell):
    """Mean cross-entropy of each codebook over the positions that hold a code.

    Args:
        vocab_size (int): codes in a codebook; labels outside 0 .. vocab_size - 1 do not count.

    Inputs:
        - **logits** (Tensor) - [B, K, T, V] float32.
        - **labels** (Tensor) - [B, K, T] int32.

    Outputs:
        Tensor of shape [K], in nats.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, vocab_size):
        super().__init__()
        self.vocab_size = vocab_size
        self.cross_entropy = ops.SoftmaxCrossEntropyWithLogits()

    def construct(self, logits, labels):
        rows, codebooks, columns = labels.shape
        counted = ops.logical_and(labels >= 0, labels < self.vocab_size).astype(ms.float32)
        safe = (labels * counted.astype(ms.int32)).reshape(-1)
        targets = ops.one_hot(safe, self.vocab_size, Tensor(1.0, ms.float32), Tensor(0.0, ms.float32))
        losses, _ = self.cross_entropy(logits.reshape(-1, self.vocab_size), targets)
        losses = losses.reshape(rows, codebooks, columns) * counted
        return losses.sum(axis=(0, 2)) / ops.maximum(counted.sum(axis=(0, 2)), Tensor(1.0, ms.float32))
