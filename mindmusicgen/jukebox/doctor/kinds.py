"""Each kind of attention over a short sequence, and the same in NumPy, from what the kind's name says."""

import numpy as np
from mindspore import Tensor

from ...doctor.drawn import filled
from ...runtime.compiled import compiled
from ..attention import Attention
from ..checkpoint.names import plan
from ..config import JukeboxPriorConfig

KINDS = ("row", "column", "previous", "prime", "dense", "cross")
ROW, ROWS, LYRICS = 6, 4, 5  # positions of a row, rows; characters: prime attention sees two rows less one code
SIZES = {"hidden_size": 16, "n_heads": 2, "attention_multiplier": 0.5, "blocks": ROWS, "n_ctx": ROW * ROWS - LYRICS}
CONFIG = JukeboxPriorConfig(nb_relevant_lyric_tokens=LYRICS, **SIZES)


def seen(kind, row, rows, prime):
    """Which positions (columns) each position (rows) attends to, [T, T] bool.

    Args:
        kind (str): one of `KINDS` but "cross".
        row, rows (int): positions of a row, and rows; T is their product.
        prime (int): the first positions, which prime attention sees.
    """
    query, key = np.arange(row * rows)[:, None], np.arange(row * rows)[None]
    if kind == "previous":
        return key // row == query // row - 1
    of_kind = {
        "row": key // row == query // row,
        "column": key % row == query % row,
        "prime": key < prime,
        "dense": key >= 0,
    }
    return of_kind[kind] & (key <= query)


class Kinds:
    """Attention of each kind, with weights from a seed.

    Args:
        seed (int): of weights and inputs.
        dtype (mindspore.dtype): of weights and activations.
    """

    def __init__(self, seed, dtype):
        rng = np.random.default_rng(seed)
        self.dtype, self.seed = dtype, seed
        self.x = rng.standard_normal((2, ROW * ROWS, CONFIG.hidden_size), np.float32)
        self.states = rng.standard_normal((2, LYRICS, CONFIG.hidden_size), np.float32)
        self.cells = {}

    def cell(self, kind):
        """The attention, made when it is first asked for."""
        if kind not in self.cells:
            made = Attention(CONFIG, kind, ROW * ROWS, self.dtype)
            self.cells[kind] = filled(made, plan(made, ""), self.seed)
        return self.cells[kind]

    def found(self, kind):
        """What a compiled graph makes of the sequence, [2, T, W]."""
        cell = self.cell(kind)
        run = compiled(cell.construct, f"jukebox {kind} {self.dtype}")
        return run(Tensor(self.x, self.dtype), Tensor(self.states, self.dtype)).asnumpy().astype(np.float64)

    def expected(self, kind):
        """The same by NumPy in float64."""
        cell = self.cell(kind)
        linear = lambda one, x: x @ _array(one.weight).T + _array(one.bias)  # noqa: E731
        x, states = self.x.astype(np.float64), self.states.astype(np.float64)
        q, k, v = np.split(linear(cell.c_attn, x), 3, 2) if kind != "cross" else (linear(cell.c_attn, x), None, None)
        if kind == "cross":
            k, v = np.split(linear(cell.c_enc_kv, states), 2, 2)
        q, k, v = (one.reshape(2, -1, cell.heads, cell.size).swapaxes(1, 2) for one in (q, k, v))
        scores = q @ k.swapaxes(2, 3) / np.sqrt(cell.size)
        mask = np.ones(scores.shape[2:], bool) if kind == "cross" else seen(kind, ROW, ROWS, CONFIG.prime_length)
        weights = np.exp(scores - scores.max(-1, keepdims=True)) * mask
        weights /= np.maximum(weights.sum(-1, keepdims=True), 1e-300)  # nothing above the first row: 0
        y = (weights @ v).swapaxes(1, 2).reshape(*x.shape[:2], -1)
        return linear(cell.c_proj, y)


def _array(parameter):
    return parameter.asnumpy().astype(np.float64)
