"""What the sub-models have in common: they open a checkpoint, have random weights without one, and are called."""

import functools
import inspect

import mindspore as ms
from mindspore import nn

from ..checkpoint.names import BUFFERS, plan
from ..models.initial_weights import initial_weights
from ..models.layers import initialise
from ..runtime.callers import serialised, turn
from ..torch_names import Habits
from . import opening


def passed_to(method):
    """A method of a sub-model that is its network's, with that one's signature and documentation."""

    @functools.wraps(method)
    def call(self, *arguments, **named):
        return method(self.whole, *arguments, **named)

    signature = inspect.signature(method)
    first, *others = signature.parameters.values()
    call.__signature__ = signature.replace(parameters=[first.replace(name="self"), *others])
    return call


class Submodel(Habits, nn.Cell):
    """One network in a cell of its own, under the name that it has in the composite.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    part = ""  # the composite's name of the network, and of the attribute that holds it here
    model_type = ""  # of a config of its own
    network = None  # its class
    count = None  # a function from a config to the number of parameters
    may_be_quantised = False  # whether it is the network of a model whose weights may have 8 bits

    def __init__(self, config, dtype=ms.float32, empty=False):
        super().__init__(auto_prefix=False)
        self.config = config
        setattr(self, self.part, self.network(config, dtype))
        self.update_parameters_name("")
        self.set_train(False)
        if not empty:
            initial_weights(self)

    @property
    def whole(self):
        """The network."""
        return getattr(self, self.part)

    @property
    def dtype(self):
        """What it computes with."""
        return self.whole.dtype

    def __call__(self, *args, **kwargs):
        # Arguments are checked in Python, which a context in graph mode would try to compile.
        with turn():
            if ms.get_context("mode") == ms.GRAPH_MODE:
                return self.construct(*args, **kwargs)
            return super().__call__(*args, **kwargs)

    @classmethod
    def from_pretrained(
        cls,
        model=None,
        dtype=None,
        revision=None,
        cache_dir=None,
        local_files_only=False,
        device=None,
        config=None,
        **habits,
    ):
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
            config (transformers.PretrainedConfig): in place of the checkpoint's.
            **habits: fields of the config to change, and what else transformers takes here: see docs/migration.md.

        Raises:
            InputError: if there is no such device or model, if weights are missing or left over, by name, or if
                files are damaged or do not fit their config.
        """
        return opening.load(cls, model, dtype, revision, cache_dir, local_files_only, device, config, habits)

    def save_pretrained(self, save_directory, dtype=None, **habits):
        """Write config and weights as transformers' class of this name expects them.

        Args:
            save_directory (str): folder to write.
            dtype (str): how weights are stored, float32 or float16; None keeps the model's own.
            **habits: what else transformers takes here: see docs/migration.md.

        Raises:
            InputError: if the folder cannot be written.
        """
        opening.save(self, save_directory, dtype, habits)

    @classmethod
    def leaves_out(cls, name):
        """Whether a tensor of a checkpoint belongs to something that this sub-model does not have."""
        return False

    def plan(self):
        """Of which tensors of a whole model's checkpoint each parameter is made: dict of name to `Piece`s."""
        return plan(self)

    def own_names(self, tensors=()):
        """A function from a tensor's name in a whole model's checkpoint to that in a checkpoint of this network alone.

        Args:
            tensors (Iterable[str]): names in the checkpoint, if there is one.
        """
        return lambda name: name.removeprefix(self.part + ".")

    def without_meaning(self, source):
        """A function that says whether a tensor (name, LazyTensor) that is not in the plan may be in a checkpoint."""
        return lambda name, tensor: bool(BUFFERS.match(name))

    def learn_from(self, folder, composite):
        """Take from a checkpoint what is neither weights nor the sub-model's own config.

        Args:
            folder (str): where it is.
            composite (transformers.MusicgenConfig): config of the whole model; None if it is of this one alone.
        """

    @serialised
    def initialise(self, seed=0, std=0.02):
        """Fill all parameters with random weights; returns the sub-model."""
        initialise(self, seed, std)
        return self

    def get_input_embeddings(self):
        """The table that the network's ids are looked up in."""
        return self.whole.get_input_embeddings()


def wants(output_attentions, output_hidden_states, *configs):
    """What to keep of a call: its own arguments over the configs, of the network and of what it is part of.

    Returns:
        dict of `keep_weights` and `keep_hidden`.
    """

    def wanted(name, asked):
        return any(bool(getattr(config, name, False)) for config in configs) if asked is None else bool(asked)

    return {
        "keep_weights": wanted("output_attentions", output_attentions),
        "keep_hidden": wanted("output_hidden_states", output_hidden_states),
    }


def returned(output, return_dict, config):
    """An output, or a plain tuple where the call, or else the config, says return_dict=False."""
    return_dict = getattr(config, "return_dict", True) if return_dict is None else return_dict
    return output.to_tuple() if return_dict is False else output
