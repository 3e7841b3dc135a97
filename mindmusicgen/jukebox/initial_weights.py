"""Random weights for networks that are built from a config alone."""

import numpy as np


def initialise(network, std, seed=0):
    """Fill a network in place: norms 1, biases 0, matrices normal.

    Args:
        network (nn.Cell): a prior or the VQ-VAE.
        std (float): standard deviation of matrices.
        seed (int): of the random numbers.
    """
    rng = np.random.default_rng(seed)
    for name, parameter in network.parameters_and_names():
        values = parameter.asnumpy()  # shares the parameter's memory
        if values.ndim > 1:
            values[...] = rng.standard_normal(values.shape, np.float32) * std
        else:
            values[...] = 1.0 if "layer_norm" in name and name.endswith("weight") else 0.0
