"""What the sub-models have in common: they open a checkpoint, can be filled with random weights, and are called."""

import mindspore as ms
from mindspore import nn

from ..checkpoint import parts
from ..models.layers import initialise


class Submodel(nn.Cell):
    """One network in a cell of its own, under the name that it has in the composite.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    part = ""  # the composite's name of the network, and of the attribute that holds it here

    def __init__(self, config, network):
        super().__init__(auto_prefix=False)
        self.config = config
        setattr(self, self.part, network)
        self.update_parameters_name("")
        self.set_train(False)

    def __call__(self, *args, **kwargs):
        # Arguments are checked in Python, which a context in graph mode would try to compile.
        if ms.get_context("mode") == ms.GRAPH_MODE:
            return self.construct(*args, **kwargs)
        return super().__call__(*args, **kwargs)

    @classmethod
    def from_pretrained(cls, model, dtype=None, revision=None, cache_dir=None, local_files_only=False, device=None):
        """Open this network's own checkpoint, or take it out of a composite one.

        Args:
            model (str): folder, hub id, or "demo"; of this network alone, or of a whole MusicGen.
            dtype (str | mindspore.dtype): float32, float16, or bfloat16 on Ascend; None or "auto": float16 on Ascend,
                float32 on a CPU. The codec is always float32.
            revision (str): branch, tag or commit on the hub.
            cache_dir (str): where downloads are kept.
            local_files_only (bool): do not ask the hub.
            device (str): CPU, Ascend, or Ascend:1 for the second NPU, for the whole process; None: what the
                environment's MINDMUSICGEN_DEVICE says, or MindSpore's choice.

        Raises:
            InputError: if there is no such device or model, if weights are missing or left over, by name, or if
                files are damaged or do not fit their config.
        """
        return parts.load(cls, model, dtype, revision, cache_dir, local_files_only, device)

    @classmethod
    def leaves_out(cls, name):
        """Whether a tensor of a checkpoint belongs to something that this sub-model does not have."""
        return False

    def learn_from(self, folder, composite):
        """Take from a checkpoint what is neither weights nor the sub-model's own config.

        Args:
            folder (str): where it is.
            composite (transformers.MusicgenConfig): config of the whole model; None if it is of this one alone.
        """

    def initialise(self, seed=0, std=0.02):
        """Fill all parameters with random weights; returns the sub-model."""
        initialise(self, seed, std)
        return self


def wants(config, output_attentions, output_hidden_states):
    """What to keep of a call: its own arguments over the config's.

    Returns:
        dict of `keep_weights` and `keep_hidden`.
    """
    if output_attentions is None:
        output_attentions = getattr(config, "output_attentions", False)
    if output_hidden_states is None:
        output_hidden_states = getattr(config, "output_hidden_states", False)
    return {"keep_weights": bool(output_attentions), "keep_hidden": bool(output_hidden_states)}


def returned(output, return_dict):
    """An output, or a plain tuple for return_dict=False."""
    return output.to_tuple() if return_dict is False else output
