"""Does the small MusicLDM do what prompts say? Songs, songs through its networks, and what it makes.

    python scripts/beats_ldm/measure.py [--model beats] [--prompts 48] [--keep FOLDER]

A sound is taken for that loop, of all the world's, whose log-mel spectrogram is nearest. "Another's" compares it with
the next prompt's wish, which is what chance gives. Half of the prompts are of kinds that were held out from training.
"""

import argparse
from pathlib import Path

import networks
import numpy as np
import torch
import world

KINDS = ("rhythm", "tempo", "kit")
HOW = {"num_inference_steps": 25, "guidance_scale": 2.0}


class Ear:
    """Tells which loop of the world a sound is nearest to."""

    def __init__(self):
        self.mel = networks.LogMel()
        self.known = self.shown([world.audio(world.compose(loop)) for loop in world.ALL])

    def shown(self, sounds):
        """Log-mel spectrograms, halved in time, [sounds, bins]."""
        with torch.no_grad():
            found = self.mel(networks.as_tensor(np.stack(sounds)))
        return found[:, : found.shape[1] // 2 * 2].reshape(len(found), -1, 2, found.shape[2]).mean(2).flatten(1)

    def __call__(self, sounds):
        """The nearest loops, and how far they are in nats."""
        far = torch.cdist(self.shown(sounds), self.known, p=1) / self.known.shape[1]
        return [world.ALL[i] for i in far.argmin(1)], far.min(1).values.numpy()


def rows_of(sounds, loops, ear):
    """Shares of what is as asked, and means."""
    heard, far = ear(sounds)
    found = {
        f"{kind} as asked": np.mean([getattr(a, kind) == getattr(b, kind) for a, b in zip(heard, loops, strict=True)])
        for kind in KINDS
    }
    found["all three"] = np.mean([world.facts(a) == world.facts(b) for a, b in zip(heard, loops, strict=True)])
    found["nats to the nearest loop"] = np.mean(far)
    found["different loops"] = len(set(heard))
    found["level, dB"] = np.mean([20 * np.log10(np.sqrt(np.mean(x * x)) + 1e-9) for x in sounds])
    return found


def through(pipe, latents):
    """What decoder and vocoder make of latents [channels, lines, columns]."""
    from mindspore import Tensor

    return pipe.vocoder(pipe.vae(Tensor(np.ascontiguousarray(latents.transpose(1, 2, 0))[None]))).asnumpy()[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="beats", help="folder or name")
    parser.add_argument("--prompts", type=int, default=48)
    parser.add_argument("--keep", type=Path, help="folder for the sounds")
    arguments = parser.parse_args()
    from mindmusicgen import DPMSolverMultistepScheduler, MusicLDMPipeline, write_audio

    pipe, ear, rng = MusicLDMPipeline.from_pretrained(arguments.model), Ear(), np.random.default_rng(5)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    half = arguments.prompts // 2
    loops = [pool[i] for pool in (world.LEARNT, world.HELD_OUT) for i in rng.permutation(len(pool))[:half]]
    texts = [world.caption(loop, rng, full=True) for loop in loops]
    codes = [world.compose(loop) for loop in loops]
    ways = {"songs": [world.audio(one) for one in codes]}
    ways["through the networks"] = [through(pipe, world.latents_of(*both)) for both in zip(codes, loops, strict=True)]
    ways["generated"] = list(pipe(texts, seed=1, **HOW).audios)
    found = {name: rows_of(sounds, loops, ear) for name, sounds in ways.items()}
    found["generated, learnt kinds"] = rows_of(ways["generated"][:half], loops[:half], ear)
    found["generated, held-out kinds"] = rows_of(ways["generated"][half:], loops[half:], ear)
    found["another's"] = rows_of(ways["generated"], loops[1:] + loops[:1], ear)
    print("| | " + " | ".join(found) + " |\n|---|" + "---|" * len(found))
    for name in found["songs"]:
        print(f"| {name} | " + " | ".join(f"{found[way][name]:.2f}" for way in found) + " |")
    if arguments.keep:
        arguments.keep.mkdir(parents=True, exist_ok=True)
        for i, text in enumerate(texts):
            print(i, text)
            for kind, sounds in ways.items():
                write_audio(str(arguments.keep / f"{i:02}-{kind.split()[0]}.wav"), sounds[i], world.RATE)


if __name__ == "__main__":
    main()
