"""Write the golden values of `mindmusicgen doctor` for the tiny Jukebox: in float32, with plain operations on a CPU.

Run it after every change of that model: python scripts/make_jukebox_doctor_golden.py
"""

import os

os.environ["MINDMUSICGEN_KERNELS"] = "0"  # read when the cells are made
os.environ["MINDMUSICGEN_CACHE"] = "0"

import mindspore as ms
import numpy as np

from mindmusicgen.jukebox.doctor.demo import PATH, PRIORS
from mindmusicgen.jukebox.doctor.tiny import TinyJukebox
from mindmusicgen.runtime.files import whole_file


def main():
    ms.set_device("CPU")
    model = TinyJukebox(ms.float32)
    made = {"vectors": model.vectors(), "sound": model.sound()}
    for name in PRIORS:
        prior = getattr(model, name)
        ids = made[name] = model.ids(prior)
        logits = model.logits(prior, ids).astype(np.float64)
        chances = np.exp(logits - logits.max(-1, keepdims=True))
        edges = np.cumsum(chances / chances.sum(-1, keepdims=True), -1)
        drawn = model.uniforms.T[..., None]
        if not np.array_equal((edges <= drawn).sum(-1), ids):
            raise SystemExit(f"the {name} prior's steps draw other ids than the whole sequence does")
        made[f"{name}_margins"] = np.abs(edges - drawn).min(-1).astype(np.float32)
        print(f"{name}: smallest margin {made[f'{name}_margins'].min():.2g}, different ids {len(np.unique(ids))}")
    with whole_file(PATH) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, **made)
    print(f"{PATH.name}: {PATH.stat().st_size / 1e3:.1f} kB")


if __name__ == "__main__":
    main()
