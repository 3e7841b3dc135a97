"""Whole numbers in order, as a constant of the graph."""

import numpy as np
from mindspore import Tensor, ops


@ops.constexpr
def indices(start, stop):
    """start, start + 1, ..., stop - 1, [stop - start] int64.

    `mindspore.ops.arange` tells types apart by how they print, which `import mindnlp` changes.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    return Tensor(np.arange(start, stop, dtype=np.int64))
