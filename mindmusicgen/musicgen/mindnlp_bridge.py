"""MindNLP's MusicGen models with this package's compiled `generate`.

MindNLP runs the models of transformers on MindSpore through a torch of its own. Their weights, configs and tensors are
what this package reads anyway; only their names have to be carried over.
"""

import copy
import functools
import hashlib
import importlib
import weakref
from dataclasses import dataclass

import numpy as np

from ..dtypes import resolve_dtype
from ..errors import InputError
from ..families import KINDS, public
from .checkpoint.names import load
from .delay_pattern import FREE, build_pattern, is_delayed

SAMPLED = 64  # values of each weight that tell whether it has changed
FAMILIES = ("musicgen", "musicgen_melody")
UNUSED = ("logits_processor", "stopping_criteria", "synced_gpus", "streamer")  # arguments that have no meaning here

_converted = weakref.WeakKeyDictionary()  # model of MindNLP: (its weights' fingerprint, ours)


def from_mindnlp(model, dtype="float32"):
    """A model that MindNLP has loaded as a model of this package, with no file in between.

    Args:
        model (mindnlp.transformers.MusicgenForConditionalGeneration): or MusicgenMelodyForConditionalGeneration; its
            weights are copied, its config and generation config too.
        dtype (str | mindspore.dtype): float32, or float16 (bfloat16 where the device has it).

    Returns:
        MusicgenForConditionalGeneration or MusicgenMelodyForConditionalGeneration of this package.

    Raises:
        InputError: if it is another kind of model, or its weights do not fit its config.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    kind = getattr(getattr(model, "config", None), "model_type", None)
    if kind not in KINDS or not hasattr(model, "state_dict"):
        raise InputError(
            f"model is a {type(model).__name__}; expected a MusicgenForConditionalGeneration that MindNLP has loaded"
        )
    chosen = resolve_dtype(dtype)
    cls = public(KINDS[kind].model)
    generation_config = copy.deepcopy(model.generation_config)
    ours = cls(copy.deepcopy(model.config), dtype=chosen, generation_config=generation_config, empty=True)
    tensors = {name: _Weight(tensor) for name, tensor in model.state_dict().items()}
    load(ours, tensors, f"the {type(model).__name__} of MindNLP")
    return ours


def patch_mindnlp():
    """Give MusicGen models that MindNLP has loaded, or will load, this package's compiled `generate`.

    The delay pattern's mask is mended as well: MindNLP evaluates it as booleans on a CPU, where its own `generate`
    therefore fails. That one stays reachable, as `type(model).generate.__wrapped__(model, ...)`. A model is converted
    at its first `generate`, and again after its weights have changed, which takes its size in memory once more.

    Raises:
        InputError: if MindNLP is not installed.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    try:
        import mindnlp  # noqa: F401, it puts its torch in the place of torch
    except ImportError as error:
        raise InputError(
            f"MindNLP cannot be imported ({error}); install it with this package: pip install -e '.[mindnlp]'"
        ) from error
    for family in FAMILIES:
        module = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
        for name in vars(module):
            if name.endswith(("ForConditionalGeneration", "ForCausalLM")):
                _patch(getattr(module, name))


def _patch(cls):
    """Replace what has to be replaced of one of transformers' classes, once."""
    if "build_delay_pattern_mask" in vars(cls):
        cls.build_delay_pattern_mask = _delay_pattern_mask
    if cls.__name__.endswith("ForConditionalGeneration") and not getattr(cls.generate, "compiled", False):
        original = cls.generate

        @functools.wraps(original)
        def generate(self, inputs=None, generation_config=None, **arguments):
            return _generate(self, inputs, generation_config, arguments)

        generate.__wrapped__, generate.compiled = original, True
        cls.generate = generate


def _generate(model, inputs, generation_config, arguments):
    """`generate` of this package for a model of MindNLP."""
    for name in UNUSED:
        if arguments.pop(name, None) not in (None, False):
            raise InputError(
                f"{name} is not supported by the compiled generate; MindNLP's own is "
                f"{type(model).__name__}.generate.__wrapped__(model, ...)"
            )
    if inputs is not None:
        arguments["input_ids"] = inputs
    generation_config = model.generation_config if generation_config is None else generation_config
    return _ours(model).generate(generation_config=generation_config, **arguments)


def _ours(model):
    """The model of this package for one of MindNLP, converted when there is none or the weights have changed."""
    found, fingerprint = _converted.get(model), _fingerprint(model)
    if found is None or found[0] != fingerprint:
        _converted.pop(model, None)  # before the next is made: one copy is large enough
        found = _converted[model] = fingerprint, from_mindnlp(model)
    return found[1]


def _fingerprint(model):
    """A few values of every weight, hashed."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        values = tensor.asnumpy().reshape(-1)
        digest.update(name.encode() + values[:: max(values.size // SAMPLED, 1)].tobytes())
    return digest.digest()


@dataclass(frozen=True)
class _Weight:
    """A tensor of MindNLP as `checkpoint.huggingface` reads tensors."""

    tensor: object

    @property
    def shape(self):
        return tuple(self.tensor.shape)

    def read(self):
        values = self.tensor.asnumpy()
        return values if values.dtype.kind != "V" else self.tensor.float().asnumpy()  # NumPy has no bfloat16


def _delay_pattern_mask(self, input_ids, pad_token_id, max_length=None):
    """transformers' `build_delay_pattern_mask`, by this package's delay pattern.

    Args:
        input_ids (Tensor): the start code and the prompt, [B * K, T].
        pad_token_id (int): the padding code.
        max_length (int): columns; None for the generation config's.

    Returns:
        the columns that are known, and what each column must hold, -1 where it is free: [B * K, ...] both.
    """
    import torch  # MindNLP's

    length = self.generation_config.max_length if max_length is None else max_length
    books, channels = self.num_codebooks, getattr(self.config, "audio_channels", 1)
    known = input_ids.asnumpy().reshape(-1, books, input_ids.shape[-1])
    if not is_delayed(length, books, channels):
        free = np.full((len(known) * books, length), FREE, np.int64)
        return input_ids, torch.tensor(free)
    pattern, start = build_pattern(known[:, :, 1:], length, pad_token_id, channels)
    rows = pattern.reshape(-1, length).astype(np.int64)
    return torch.tensor(rows[:, :start]), torch.tensor(rows)
