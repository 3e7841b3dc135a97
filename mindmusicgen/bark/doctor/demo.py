"""The tiny Bark in the hands of `mindmusicgen doctor`.

Every stage takes its most probable choices. One that differs from the golden run's is right if it was in doubt: if the
second logit came as near to the best there as rounding in the dtype may move it.
"""

import numpy as np

from ...doctor.stages import AUDIO_TOLERANCES, CHOICE_TOLERANCES, StageCheck, largest_error, part_different
from ..model import BarkModel
from ..processing import BarkProcessor
from . import golden
from .stages import Stages


class Demo:
    """The tiny Bark, opened, and the golden values that it is held against.

    Args:
        device (str): "CPU" or "Ascend".
        dtype (str): of the three stages.

    Raises:
        InputError: if the golden values are missing, or of another model.
    """

    title = "A tiny Bark against golden values"

    def __init__(self, device, dtype):
        self.device, self.dtype, self.gold = device, dtype, golden.load()
        model = BarkModel.from_pretrained(golden.MODEL, dtype=dtype)
        self.stages = Stages(model, BarkProcessor.from_pretrained(golden.MODEL))

    def checks(self, quick):
        """The stages' checks; `quick` leaves out what others cover in part."""
        gold, stages = self.gold, self.stages
        checks = [
            StageCheck("Bark's tokenizer", self._tokens),
            StageCheck("Bark's semantic stage", self._semantic),
            StageCheck("Bark's fine stage", lambda: self._books(stages.fine(gold["fine"]))),
        ]
        if quick:
            return checks
        checks.insert(2, StageCheck("Bark's coarse stage", lambda: self._coarse(stages.coarse(gold["semantic"]))))
        return [*checks, StageCheck("Bark's codec", self._audio)]

    def _tokens(self):
        found = self.stages.tokens(self.gold["text"])
        return part_different(found, (self.gold["ids"], self.gold["mask"])), 0.0, ""

    def _semantic(self):
        found = self.stages.semantic(self.gold["ids"], self.gold["mask"])
        return self._chain(found, self.gold["semantic"], self.gold["semantic_margins"])

    def _coarse(self, found):
        """Codes take turns: of both codebooks, frame by frame."""
        if found.shape != self.gold["coarse"].shape:
            return float("inf"), 0.0, f"shape {found.shape}, expected {self.gold['coarse'].shape}"
        return self._chain(*(one.T.reshape(-1) for one in (found, self.gold["coarse"], self.gold["coarse_margins"])))

    def _chain(self, found, expected, margins):
        """Choices that each depend on those before: the first that differs counts."""
        shortest = min(len(found), len(expected))
        differing = np.nonzero(found[:shortest] != expected[:shortest])[0]
        same = int(differing[0]) if len(differing) else shortest
        error = 0.0 if same == len(found) == len(expected) else float(margins[same])
        return error, CHOICE_TOLERANCES[self.dtype], f"{same} of {len(expected)} ids as in the golden run"

    def _books(self, found):
        """Choices that do not depend on each other: each that differs counts."""
        differing = found != self.gold["fine"]
        error = float(self.gold["fine_margins"][differing].max(initial=0))
        remark = f"{differing.size - differing.sum()} of {differing.size} codes as in the golden run"
        return error, CHOICE_TOLERANCES[self.dtype], remark

    def _audio(self):
        found = self.stages.audio(self.gold["fine"][:, : golden.AUDIO_FRAMES])
        return largest_error(found, self.gold["audio"]), AUDIO_TOLERANCES[self.device], ""
