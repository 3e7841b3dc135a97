"""Write the golden values of `mindmusicgen doctor`: what the demo gives in float32 with plain operations on a CPU.

Run it after every change of the demo model or of its tokenizer: python scripts/make_doctor_golden.py
"""

import os

os.environ["MINDMUSICGEN_KERNELS"] = "0"  # read when the cells are made
os.environ["MINDMUSICGEN_CACHE"] = "0"

import mindspore as ms
import numpy as np

from mindmusicgen import MusicgenForConditionalGeneration, MusicgenProcessor
from mindmusicgen.checkpoint.source import DEMO
from mindmusicgen.doctor.golden import save
from mindmusicgen.musicgen.doctor import golden
from mindmusicgen.musicgen.doctor.stages import Stages

FEWEST = 25  # frames of greedy codes before a near-tie: more than one chunk


def greedy_run(stages, prompts):
    """How certain the greedy codes are (frames, and the smallest margin), and the arrays of the run."""
    ids, mask = stages.tokens(prompts)
    states = stages.states(ids, mask)
    codes = stages.codes(states, mask)
    margins = stages.margins(states, mask, codes)
    certain = golden.certain_frames(margins)
    print(f"{certain} frames before a near-tie, smallest margin {margins.min():.1e}: {', '.join(prompts)}")
    run = {"prompts": np.array(prompts), "ids": ids, "mask": mask, "states": states, "codes": codes, "margins": margins}
    return (certain, margins.min()), run


def robust_uniforms(stages, states, mask, logits, rng):
    """Uniforms that choose the same codes when they move a little, and these codes."""
    shape = (len(logits), len(states), logits.shape[2])
    uniforms = rng.random(shape, np.float32)
    while True:
        moved = [np.clip(uniforms + by, 0, np.float32(0.9999)) for by in (-1e-3, 0, 1e-3)]
        low, codes, high = (stages.sampled(states, mask, logits, one.astype(np.float32)) for one in moved)
        fragile = (low != codes) | (codes != high)
        if not fragile.any():
            return uniforms, codes
        uniforms = np.where(fragile, rng.random(shape, np.float32), uniforms)


def main():
    ms.set_device("CPU")
    stages = Stages(MusicgenForConditionalGeneration.from_pretrained("demo"), MusicgenProcessor.from_pretrained("demo"))
    (certain, _), run = max((greedy_run(stages, prompts) for prompts in golden.PROMPTS), key=lambda found: found[0])
    if certain < FEWEST:
        raise SystemExit(f"at best {certain} frames before a near-tie; add prompts to {golden.__file__}")
    states, mask, codes = run["states"], run["mask"], run["codes"]
    logits = stages.step_logits(states, mask, codes, golden.LOGIT_COLUMNS)
    uniforms, sampled = robust_uniforms(stages, states, mask, logits, np.random.default_rng(0))
    audio = stages.audio(codes[:1, :, : golden.AUDIO_FRAMES])
    arrays = run | {"logits": logits, "uniforms": uniforms, "sampled": sampled, "audio": audio}
    save(golden.PATH, DEMO, golden.BELONGING, arrays | {"audio_codes": stages.audio_codes(audio)})
    print(f"{golden.PATH}: {golden.PATH.stat().st_size / 1e3:.0f} kB, {certain} of {codes.shape[2]} frames certain")


if __name__ == "__main__":
    main()
