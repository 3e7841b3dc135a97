"""The tiny MusicLDM in the hands of `mindmusicgen doctor`, and the golden values that it is held against."""

from pathlib import Path

from ...doctor import golden
from ...doctor.stages import AUDIO_TOLERANCES, TOLERANCES, StageCheck, largest_error
from ...dtypes import DTYPES
from .tiny import TinyMusicLDM

PATH = Path(__file__).with_name("golden.npz")
SCRIPT = "scripts/make_musicldm_doctor_golden.py"  # writes the file
OF_UNET = ("noise", "steps")
NAMES = {
    "text": "MusicLDM's text vector",
    "noise": "MusicLDM's UNet",
    "steps": "MusicLDM's ten steps",
    "spectrogram": "MusicLDM's autoencoder",
    "waveform": "MusicLDM's vocoder",
}


def load(path=PATH):
    """What each of `NAMES` gives in float32 with MindSpore's plain operations on a CPU.

    Raises:
        InputError: if the file is missing or damaged.
    """
    return golden.read(path, SCRIPT, NAMES)


class Demo:
    """The tiny MusicLDM.

    Args:
        device (str): "CPU" or "Ascend".
        dtype (str): of the UNet.

    Raises:
        InputError: if the golden values are missing.
    """

    title = "A tiny MusicLDM against golden values"

    def __init__(self, device, dtype):
        self.device, self.dtype, self.gold = device, dtype, load()
        self.model = TinyMusicLDM(DTYPES[dtype])

    def checks(self, quick):
        """A check of each network; `quick` leaves out the UNet alone, which the steps run too."""
        wanted = {name: said for name, said in NAMES.items() if not (quick and name == "noise")}
        return [StageCheck(said, self._compare(name)) for name, said in wanted.items()]

    def _compare(self, name):
        tolerance = TOLERANCES[self.dtype] if name in OF_UNET else AUDIO_TOLERANCES[self.device]
        return lambda: (largest_error(getattr(self.model, name)(), self.gold[name]), tolerance, "")
