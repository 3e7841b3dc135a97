"""Write the golden values of `mindmusicgen doctor` for the tiny MusicLDM: in float32, with plain operations on a CPU.

Run it after every change of that model: python scripts/make_musicldm_doctor_golden.py
"""

import os

os.environ["MINDMUSICGEN_KERNELS"] = "0"  # read when the cells are made
os.environ["MINDMUSICGEN_CACHE"] = "0"

import mindspore as ms
import numpy as np

from mindmusicgen.musicldm.doctor.demo import NAMES, PATH
from mindmusicgen.musicldm.doctor.tiny import TinyMusicLDM
from mindmusicgen.runtime.files import whole_file


def main():
    ms.set_device("CPU")
    model = TinyMusicLDM(ms.float32)
    made = {name: getattr(model, name)() for name in NAMES}
    with whole_file(PATH) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, **made)
    sizes = ", ".join(f"{name} {one.shape} up to {np.abs(one).max():.3g}" for name, one in made.items())
    print(f"{PATH.name}: {PATH.stat().st_size / 1e3:.1f} kB: {sizes}")


if __name__ == "__main__":
    main()
