"""AdamW whose step is one pass over each parameter.

Paper: "Decoupled Weight Decay Regularization" (Loshchilov and Hutter, 2019). The formula, and the names of what is
kept, are those of `mindspore.nn.AdamWeightDecay`, so that checkpoints of either are the other's.
"""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from ..ops import gradients


class AdamW(nn.AdamWeightDecay):
    """`mindspore.nn.AdamWeightDecay` by a kernel of `csrc/`, which also scales the gradients.

    Args:
        groups (list[dict]): of "params", all float32, and their "weight_decay".
        learning_rate (LearningRateSchedule): of the step's number.
        beta1, beta2, eps (float): see there.

    Inputs:
        - **gradients** (tuple[Tensor]) - in the order of `parameters`.
        - **scale** (Tensor) - what they are multiplied with, a scalar.

    Supported Platforms:
        ``CPU``
    """

    def __init__(self, groups, learning_rate, beta1, beta2, eps):
        super().__init__(groups, learning_rate, beta1=beta1, beta2=beta2, eps=eps)
        decays = {p.name: group["weight_decay"] for group in groups for p in group["params"]}
        self.decays = [Tensor(np.array([decays[p.name]], np.float32)) for p in self.parameters]
        self.update = gradients.adamw_op()

    def construct(self, gradients, scale):
        rate = self.get_lr().reshape(1)
        done = (self.assignadd(self.global_step, self.global_step_increase_tensor),)
        for i in range(len(self.decays)):
            moments = self.moments1[i], self.moments2[i]
            numbers = rate, self.decays[i], scale.reshape(1), self.beta1, self.beta2, self.eps
            done += (self.update(self.parameters[i], *moments, gradients[i], *numbers),)
        return done


def adamw(groups, learning_rate, beta1=0.9, beta2=0.999, eps=1e-8):
    """`AdamW` where its kernel is available and all parameters are float32, else `mindspore.nn.AdamWeightDecay`.

    Args:
        groups, learning_rate, beta1, beta2, eps: see `AdamW`.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    float32 = all(p.dtype == ms.float32 for group in groups for p in group["params"])
    made = AdamW if float32 and gradients.library_path() else nn.AdamWeightDecay
    return made(groups, learning_rate, beta1=beta1, beta2=beta2, eps=eps)
