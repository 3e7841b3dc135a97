"""The priors of a model, read when their turn comes: of a large model there is one in memory at a time."""

import gc
import math

import mindspore as ms

from ..checkpoint.rounding import rounding
from ..errors import InputError
from ..models.quantized import say_expanded
from ..ops import quantized as quantized_ops
from ..ops.memory import release_free_memory
from ..runtime import memory_limits
from ..runtime.compiled import forget_operations, release_abandoned
from .checkpoint import folder as folders
from .decode_loop import PriorGraphs, step_bytes
from .prior import JukeboxPrior

SMALL = 1 << 30  # bytes of weights: a model below it is kept whole
EXACT = ("fc_proj_out", "lm_head")  # what 8 bits would change most, a hundredth of the weights


class Priors:
    """priors[0] is the top prior; asking for one opens it.

    Args:
        model (JukeboxModel): whose they are.
    """

    def __init__(self, model):
        self.model, self.config = model, model.config
        self.found, self.made = {}, {}  # priors by level, graphs by (level, samples)
        self.eager = frozenset()  # levels whose graphs are not compiled
        self.raws = self.config.raws

    def __len__(self):
        return self.config.nb_priors

    def __iter__(self):
        return (self[level] for level in range(len(self)))

    def __getitem__(self, level):
        if not -len(self) <= level < len(self):
            raise IndexError(f"there are {len(self)} priors")
        level %= len(self)
        if level not in self.found:
            if self.model.tensors and not self.keeps_all():
                self.drop()
            self.found[level] = self._open(level)
        return self.found[level]

    def opened(self, level):
        """A prior that is in memory, or None; one of a model without files is made."""
        return self.found.get(level) if self.model.tensors else self[level]

    def keeps_all(self):
        """Whether all priors may be in memory together."""
        sizes = (tensor.shape for name, tensor in self.model.tensors.items() if name.startswith("priors."))
        return 4 * sum(map(math.prod, sizes)) < SMALL

    def drop(self):
        """Let all priors and their graphs go."""
        self.found.clear()
        self.made.clear()
        gc.collect()  # graphs hold themselves
        release_abandoned()
        forget_operations()
        release_free_memory()

    def _open(self, level):
        asked, reason = self.model.quantization, None
        if asked:
            reason = quantized_ops.why_not()
            if reason:
                say_expanded(reason)
        made = JukeboxPrior(
            self.config.prior_configs[level],
            level,
            len(self),
            self.model.vqvae.encode,
            self.model.vqvae.decode,
            dtype=self.model.dtype,
            quantization=None if reason else asked,
            empty=bool(self.model.tensors),
        )
        if self.model.tensors:
            stores = rounding(made, {"": made}, EXACT) if asked else None
            folders.fill(made, self.model.tensors, f"priors.{level}.", self.model.folder, stores)
        return made

    def graphs(self, level, samples, usual):
        """The graphs of a prior for so many samples; those for other numbers are let go."""
        prior = self[level]
        if (level, samples) not in self.made:
            self.made = {key: graphs for key, graphs in self.made.items() if key[0] != level}
            self.made[level, samples] = PriorGraphs(prior, samples, usual, level in self.eager)
        return self.made[level, samples]

    def usual(self, level, hop):
        """Numbers of known positions that come with most windows: lyrics alone, and what a window takes over."""
        config = self.config.prior_configs[level]
        before = config.positions - config.n_ctx
        return [n for n in (before, before + config.n_ctx - hop) if n]

    def check_room(self, level, samples):
        """Refuse to begin a level for which there is not the memory.

        Raises:
            InputError: saying how much it needs, and how much there is.
        """
        room, where = memory_limits.room()
        prefix = f"priors.{level}."
        sizes = (math.prod(one.shape) for name, one in self.model.tensors.items() if name.startswith(prefix))
        size = 4 if self.model.dtype == ms.float32 else 2
        weight, number = (1.2, 2) if self.model.quantization else (size, size)  # tables and scales beside 8 bits
        needed = weight * sum(sizes) + step_bytes(self.config.prior_configs[level], samples, number)
        if room is not None and needed > room:
            raise InputError(
                f"prior {level} with {samples} samples needs {needed / 1e9:.1f} GB of memory and {where} has "
                f"{room / 1e9:.1f}; make fewer samples at once with max_batch_size and lower_batch_size, or "
                "--batch-size"
            )
