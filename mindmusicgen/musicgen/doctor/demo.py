"""The demo model in the hands of `mindmusicgen doctor`."""

from ..model import MusicgenForConditionalGeneration
from ..processing import MusicgenProcessor
from . import benchmark, golden
from .checks import stage_checks
from .stages import Stages


class Demo:
    """The demo model, opened, and the golden values that it is held against.

    Args:
        device (str): "CPU" or "Ascend".
        dtype (str): of text encoder and decoder.

    Raises:
        InputError: if the golden values are missing, or of another demo.
    """

    title = "The demo model against golden values"

    def __init__(self, device, dtype):
        self.device, self.dtype, self.gold = device, dtype, golden.load()
        model = MusicgenForConditionalGeneration.from_pretrained("demo", dtype=dtype)
        self.stages = Stages(model, MusicgenProcessor.from_pretrained("demo"))

    def checks(self, quick):
        """The stages' checks; `quick` leaves out what others cover in part."""
        return stage_checks(self.stages, self.gold, self.device, self.dtype, quick)

    def measure(self, seconds):
        """How fast it makes so many seconds of music; see `benchmark.measure`."""
        return benchmark.measure(self.stages, self.gold, seconds)
