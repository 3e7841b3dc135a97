"""The random weights of a stage that is made from a config: transformers' distributions."""

import numpy as np

from ..models.layers import LayerNorm


def initial_weights(network, rng=None, std=None):
    """Fill a stage: norms 1, biases 0, everything else normal.

    Args:
        network (nn.Cell): the stage, with `config`.
        rng (numpy.random.Generator): None: one of NumPy's own, which `set_seed` sets.
        std (float): standard deviation; None: the config's.
    """
    rng = np.random.default_rng(np.random.randint(2**31 - 1)) if rng is None else rng
    std = np.float32(network.config.initializer_range if std is None else std)
    cells = dict(network.cells_and_names())
    for name, parameter in network.parameters_and_names():
        owner, leaf = name.rsplit(".", 1)
        values = parameter.asnumpy()  # shares the parameter's memory
        if leaf == "bias" or isinstance(cells[owner], LayerNorm):
            values[...] = leaf == "weight"
        else:
            values[...] = rng.standard_normal(values.shape, np.float32) * std
