"""The tiny Jukebox in the hands of `mindmusicgen doctor`, and the golden values that it is held against."""

from pathlib import Path

import numpy as np

from ...doctor import golden
from ...doctor.stages import AUDIO_TOLERANCES, CHOICE_TOLERANCES, TOLERANCES, StageCheck, largest_error
from ...dtypes import DTYPES
from .kinds import KINDS, Kinds
from .tiny import SEED, TinyJukebox

PATH = Path(__file__).with_name("golden.npz")
SCRIPT = "scripts/make_jukebox_doctor_golden.py"  # writes the file
PRIORS = ("top", "upper")
NAMES = ("vectors", "sound", *PRIORS, *(f"{name}_margins" for name in PRIORS))


def load(path=PATH):
    """What each of `NAMES` gives in float32 with MindSpore's plain operations on a CPU: `vectors` and `sound` of the
    VQ-VAE, the ids that each prior draws [2, n], and by how much another number would have drawn another id.

    Raises:
        InputError: if the file is missing or damaged.
    """
    return golden.read(path, SCRIPT, NAMES)


class Demo:
    """The tiny Jukebox.

    Args:
        device (str): "CPU" or "Ascend".
        dtype (str): of the priors.

    Raises:
        InputError: if the golden values are missing.
    """

    title = "A tiny Jukebox against NumPy and golden values"

    def __init__(self, device, dtype):
        self.device, self.dtype, self.gold = device, dtype, load()
        self.kinds, self.model = Kinds(SEED, DTYPES[dtype]), TinyJukebox(DTYPES[dtype])

    def checks(self, quick):
        """Each kind of attention, the VQ-VAE and the priors; `quick` leaves out the priors, which take the longest."""
        checks = [StageCheck(f"Jukebox's {kind} attention", self._attention(kind)) for kind in KINDS]
        checks.append(StageCheck("Jukebox's VQ-VAE", self._vqvae))
        if not quick:
            checks.append(StageCheck("Jukebox's top prior", lambda: self._prior("top")))
            checks.append(StageCheck("Jukebox's upper prior", lambda: self._prior("upper")))
        return checks

    def _attention(self, kind):
        def compare():
            error = largest_error(self.kinds.found(kind), self.kinds.expected(kind))
            return error, TOLERANCES[self.dtype], ""

        return compare

    def _vqvae(self):
        error = max(largest_error(getattr(self.model, name)(), self.gold[name]) for name in ("vectors", "sound"))
        return error, AUDIO_TOLERANCES[self.device], ""

    def _prior(self, name):
        """Of each sample, the first id that differs counts: those behind it depend on it."""
        found, expected = self.model.ids(getattr(self.model, name)), self.gold[name]
        differing = found != expected
        behind = np.cumsum(differing, 1) - differing
        error = float(self.gold[f"{name}_margins"][differing & (behind == 0)].max(initial=0))
        remark = f"{found.size - differing.sum()} of {found.size} ids as in the golden run"
        return error, CHOICE_TOLERANCES[self.dtype], remark
