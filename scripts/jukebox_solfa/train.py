"""Train one of the networks with torch. Stop it with Ctrl-C; the same command goes on.

    python scripts/jukebox_solfa/train.py {level0,level1,level2,prior0,prior1,prior2} --work FOLDER --steps N

`levelN` are the VQ-VAE's, the finest first: a decoder that plays given codes, and an encoder that learns to name them.
`priorN` are the priors, the top first. What is kept is the mean of the weights over many steps; the learning rate falls
to nothing at the last step.
"""

import argparse
import math
import os
import time
from pathlib import Path

import networks
import numpy as np
import torch
import world
from torch import nn
from torch.nn import functional

from mindmusicgen.jukebox.labels import Labels
from mindmusicgen.jukebox.tokenizer import JukeboxTokenizer

KEPT_EVERY = 60  # seconds
LONGEST_MEAN = 0.995
WARM = 50  # steps until the learning rate is whole


class Training:
    """What stages have in common: where a network is kept, the optimizer, the mean of the weights.

    Args:
        work (Path), name (str): the folder, and the stage.
        network (Module): what is learnt.
        rate (float): the learning rate.
    """

    def __init__(self, work, name, network, rate):
        self.path, self.network, self.rate, self.step, self.seconds = work / f"{name}.pt", network, rate, 0, 0.0
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=1e-3)
        self.mean = {key: value.clone() for key, value in network.state_dict().items()}
        if self.path.exists():
            state = torch.load(self.path, weights_only=True)
            network.load_state_dict(state["now"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.mean, self.seconds = state["step"], state["mean"], state["seconds"]

    def run(self, steps, loss_of):
        """Learn until `steps`; `loss_of(rng)` gives the loss and numbers to print."""
        sums, kept, before, began = [], time.time(), self.seconds, time.process_time()
        while self.step < steps:
            for group in self.optimizer.param_groups:
                falling = 0.5 + 0.5 * math.cos(math.pi * self.step / steps)
                group["lr"] = self.rate * min(1, (self.step + 1) / WARM) * falling
            loss, *numbers = loss_of(np.random.default_rng([self.step, 7]))
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            self.optimizer.step()
            self.step += 1
            self._average()
            sums.append([float(loss.detach()), *map(float, numbers)])
            self.seconds = before + time.process_time() - began
            if self.step % 50 == 0 or self.step == steps:
                print(self.path.stem, self.step, *np.mean(sums, 0).round(4), f"{self.seconds / 60:.1f} min", flush=True)
                sums = []
            if time.time() - kept > KEPT_EVERY or self.step == steps:
                state = {"now": self.network.state_dict(), "mean": self.mean, "optimizer": self.optimizer.state_dict()}
                torch.save(state | {"step": self.step, "seconds": self.seconds}, f"{self.path}.new")
                os.replace(f"{self.path}.new", self.path)
                kept = time.time()

    @torch.no_grad()
    def _average(self):
        weight = 1 - min(LONGEST_MEAN, self.step / (self.step + 20))
        for key, value in self.network.state_dict().items():
            self.mean[key].lerp_(value, weight) if value.is_floating_point() else self.mean[key].copy_(value)


def learnt(work, name, network):
    """A network with the weights that a stage has kept."""
    network.load_state_dict(torch.load(work / f"{name}.pt", weights_only=True)["mean"])
    return network.eval().requires_grad_(False)


def codes_in(work):
    """The codes of the finer levels, which are found where there are none."""
    path = work / "codes.npz"
    if not path.exists():
        world.Codes.found().save(path)
    return world.Codes.load(path)


def train_level(work, level, steps):
    """Rows of three notes. The decoder is to be near the sound, the encoder's vectors near those of the codes."""
    codes, network = codes_in(work), networks.Level(level)

    def loss_of(rng):
        tunes = rng.integers(0, world.REST + 1, (4, 3))
        tools = [world.GENRES[rng.integers(3)] for _ in tunes]
        songs = list(zip(tunes, tools, strict=True))
        sound = torch.from_numpy(np.stack([world.sound(*one) for one in songs]))
        wanted = torch.from_numpy(np.stack([codes.of(*one)[level] for one in songs])).long()
        with torch.autocast("cpu", torch.bfloat16):
            made = network.play(wanted).float()
            vectors = network.hear(sound + 0.003 * torch.from_numpy(rng.standard_normal(sound.shape, np.float32)))
        error = (made - sound).square().mean() / sound.square().mean().clamp(min=1e-4)
        logits = network.logits(vectors.float())
        reading = functional.cross_entropy(logits.flatten(0, 1), wanted.flatten())
        right = (logits.detach().argmax(-1) == wanted).float().mean()
        return error.sqrt() + 0.1 * reading, -10 * error.detach().log10(), reading.detach(), right

    Training(work, f"level{level}", network, 4e-3).run(steps, loss_of)


class Songs:
    """Songs as the priors read them, by the package's own tokenizer and windows."""

    def __init__(self, work, level):
        from make import write_lists

        write_lists(work / "lists")
        self.tokenizer = JukeboxTokenizer.from_pretrained(str(work / "lists"))
        self.level, self.config, self.codes = level, networks.prior_config(level), codes_in(work)
        self.raw = world.HOPS[2 - level]

    def window(self, song, first=0):
        """A window of a song from a code on: codes, those above, how many count, and its labels."""
        tune, instrument, artist, genre, lyrics = song
        rows = self.tokenizer(artist, genre, lyrics, return_tensors="np").input_ids[self.level]
        codes, n_ctx, above = self.codes.of(tune, instrument), self.config.n_ctx, None
        own = codes[2 - self.level][first : first + n_ctx]
        if self.level:
            above = codes[3 - self.level][first // 4 : (first + n_ctx) // 4]
        labels = Labels(self.config, rows, 1, self.level, self.raw)
        window = labels.window(first, len(tune) * world.SLOT, 0)
        return np.pad(own, (0, n_ctx - len(own))), above, len(own), window

    def draw(self, rng):
        """A window of a song that is drawn; below the top it lies anywhere in the song, mostly where a note begins."""
        song = world.song(rng)
        if not self.level:
            return self.window(song)
        tune = np.concatenate([song[0]] * 3)[:12]  # longer than a window
        step = world.SLOT // self.raw if rng.random() < 0.7 else 4
        last = len(tune) * world.SLOT // self.raw - self.config.n_ctx
        return self.window((tune, *song[1:]), int(rng.integers(last + 1)) // step * step)

    def batch(self, rng, size):
        """Windows of several songs as `tensors` gives them."""
        return self.tensors([self.draw(rng) for _ in range(size)])

    def tensors(self, found):
        """Windows as tensors: codes, which of them count, and arguments of `networks.logits_of`."""
        codes = np.stack([one[0] for one in found])
        count = np.arange(codes.shape[1]) < np.array([one[2] for one in found])[:, None]
        windows = [one[3] for one in found]

        def joined(name):
            return tensor(np.concatenate([getattr(one, name) for one in windows]))

        labels = {name: joined(name) for name in ("artist", "genres")}
        if self.level:
            labels["upper"] = tensor(np.stack([one[1] for one in found]))
        else:
            labels["lyrics"] = joined("lyrics")
            labels["timing"] = [joined(name) for name in ("total", "absolute", "relative")]
        return tensor(codes), torch.from_numpy(count).float(), labels


def tensor(values):
    """Whole numbers for torch."""
    return torch.from_numpy(np.ascontiguousarray(values)).long()


def train_prior(work, level, steps):
    """The first code of a note counts as eight: the others follow from it. Characters of the lyrics count little."""
    songs, network = Songs(work, level), networks.prior(level).train()
    before, shift = (networks.LYRICS, len(networks.CHARACTERS) + 1) if level == 0 else (0, 0)
    each = world.SLOT // songs.raw

    def loss_of(rng):
        codes, count, labels = songs.batch(rng, 8)
        with torch.autocast("cpu", torch.bfloat16):
            logits = networks.logits_of(network, codes, **labels).float()
        music = functional.cross_entropy(logits[:, before:].transpose(1, 2), codes + shift, reduction="none")
        new = torch.zeros_like(count)
        new[:, ::each] = count[:, ::each]
        weights = count + 7 * new
        loss = (music * weights).sum() / weights.sum()
        if before:
            text = functional.cross_entropy(logits[:, :before].transpose(1, 2), labels["lyrics"])
            loss = loss + 0.02 * text
        right = (logits[:, before:].detach().argmax(-1) == codes + shift).float()
        shares = [(right * which).sum() / which.sum() for which in (new, count)]
        return loss, (music.detach() * count).sum() / count.sum(), *shares

    Training(work, f"prior{level}", network, 2e-3).run(steps, loss_of)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=[f"{kind}{i}" for kind in ("level", "prior") for i in range(3)])
    parser.add_argument("--work", required=True, type=Path, help="folder for checkpoints")
    parser.add_argument("--steps", type=int, required=True)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    train = train_level if arguments.stage.startswith("level") else train_prior
    train(arguments.work, int(arguments.stage[-1]), arguments.steps)


if __name__ == "__main__":
    main()
