"""Train one of the networks with torch. Stop it with Ctrl-C; the same command goes on.

    python scripts/beats_ldm/train.py {text,unet,vae,vocoder} --work FOLDER --steps N [--rate 0.25]

`text` reads captions and learns to say what they say; `unet` foretells noise in latents; `vae` paints spectrograms from
latents, and reads latents from spectrograms; `vocoder` plays spectrograms, its own and, once there are some, those that
the autoencoder paints. What is kept is the mean over many steps, so training may end at any time; a part of the
learning rate, at the end, helps too.
"""

import argparse
import os
import time
from pathlib import Path

import networks
import numpy as np
import torch
import world
from networks import LogMel, as_tensor
from torch import nn
from torch.nn import functional

ROWS = 16  # of the UNet's batches: many small steps teach more in a minute than few large ones
KEPT_EVERY = 60  # seconds
LONGEST_MEAN = 0.998


class Pool:
    """The loops that are learnt, composed once: codes and latents."""

    def __init__(self):
        self.loops = world.LEARNT
        self.codes = [world.compose(loop) for loop in self.loops]
        self.latents = np.stack([world.latents_of(*both) for both in zip(self.codes, self.loops, strict=True)])

    def draw(self, rng, rows):
        """Places of loops."""
        return rng.integers(len(self.loops), size=rows)

    def pictures(self, places):
        """Latents, [rows, channels, LINES, COLUMNS]."""
        return as_tensor(self.latents[places])

    def sounds(self, places, first=0, lines=world.LINES):
        """Samples of some lines, [rows, samples]."""
        start, end, size = max(first - 4, 0) * world.LINE, (first + lines) * world.LINE, lines * 8 * world.HOP
        return as_tensor(np.stack([world.audio(self.codes[i][start:end])[-size:] for i in places]))


class Texts:
    """The tokenizer, which is trained where there is none, and captions as tokens."""

    def __init__(self, work):
        self.folder = work / "tokenizer"
        if not self.folder.exists():
            self._train()
        from transformers import AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(self.folder)

    def _train(self):
        from tokenizers import ByteLevelBPETokenizer
        from transformers import RobertaTokenizerFast

        rng = np.random.default_rng(1)
        lines = [world.caption(loop, rng) for _ in range(5) for loop in world.LEARNT]
        made = ByteLevelBPETokenizer()
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        made.train_from_iterator(lines, vocab_size=300, special_tokens=special, show_progress=False)
        self.folder.mkdir(parents=True)
        made.save_model(str(self.folder))
        files = {name: str(self.folder / f"{name}.{kind}") for name, kind in (("vocab", "json"), ("merges", "txt"))}
        RobertaTokenizerFast(files["vocab"], files["merges"], model_max_length=networks.TOKENS).save_pretrained(
            self.folder
        )

    def __call__(self, texts):
        """ids and mask of texts."""
        return self.tokenizer(list(texts), padding=True, return_tensors="pt")


class Training:
    """What stages have in common: where a network is kept, the optimizer, the mean of the weights.

    Args:
        work (Path), name (str): the folder, and the stage.
        network (Module): what is learnt.
        rate (float): the learning rate.
    """

    part = 1.0  # of the learning rates

    def __init__(self, work, name, network, rate):
        self.path, self.network, self.step, self.seconds = work / f"{name}.pt", network, 0, 0.0
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=1e-3)
        self.rate = rate
        if self.path.exists():
            state = torch.load(self.path, weights_only=True)
            network.load_state_dict(state["now"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.mean, self.seconds = state["step"], state["mean"], state["seconds"]
        else:
            self.mean = {key: value.clone() for key, value in network.state_dict().items()}

    def run(self, steps, loss_of):
        """Learn until `steps`; `loss_of(step, rng)` gives the loss and numbers to print."""
        sums, kept, began = [], time.time(), time.process_time()
        before = self.seconds
        while self.step < steps:
            for group in self.optimizer.param_groups:
                group["lr"] = self.part * self.rate * min(1, (self.step + 1) / 100)
            loss, *numbers = loss_of(self.step, np.random.default_rng([self.step, 7]))
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
                self._keep()
                kept = time.time()

    @torch.no_grad()
    def _average(self):
        weight = 1 - min(LONGEST_MEAN, self.step / (self.step + 20))
        for key, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.mean[key].lerp_(value, weight)
            else:
                self.mean[key].copy_(value)

    def _keep(self):
        state = {"now": self.network.state_dict(), "mean": self.mean, "optimizer": self.optimizer.state_dict()}
        torch.save(state | {"step": self.step, "seconds": self.seconds}, f"{self.path}.new")
        os.replace(f"{self.path}.new", self.path)


def learnt(work, name, network):
    """A network with the weights that a stage has kept, in no need of gradients."""
    network.load_state_dict(torch.load(work / f"{name}.pt", weights_only=True)["mean"])
    return network.eval().requires_grad_(False)


def bfloat16():
    """Products in bfloat16, which these networks do not mind."""
    return torch.autocast("cpu", torch.bfloat16)


class Reader(nn.Module):
    """CLAP's text side, and what tells facts from its vectors."""

    def __init__(self, vocabulary):
        super().__init__()
        self.clap = networks.clap(vocabulary)
        self.heads = nn.Linear(networks.VECTOR, sum(world.CHOICES), bias=False)

    def forward(self, inputs):
        """Vectors, and a list of logits for each fact."""
        vectors = functional.normalize(self.clap(**inputs).text_embeds, dim=-1)
        return vectors, self.tell(vectors)

    def tell(self, vectors):
        """The facts of vectors: logits of each."""
        heads = functional.normalize(self.heads.weight, dim=-1)
        return (12 * vectors @ heads.T).split(world.CHOICES, 1)


def train_text(work, steps):
    """Half of the captions say all, so that vectors hold all; the others say what they say."""
    texts = Texts(work)
    reader = Reader(len(texts.tokenizer))
    training = Training(work, "text", reader, 2e-3)

    def loss_of(step, rng):
        loops = [world.LEARNT[i] for i in rng.integers(len(world.LEARNT), size=96)]
        inputs = texts(world.caption(loop, rng, full=row % 2 == 0) for row, loop in enumerate(loops))
        _, logits = reader(inputs)
        targets = torch.tensor([world.facts(loop) for loop in loops])
        losses = [functional.cross_entropy(one, targets[:, i]) for i, one in enumerate(logits)]
        right = torch.stack([(one.argmax(1) == targets[:, i])[::2].float().mean() for i, one in enumerate(logits)])
        return sum(losses), *right

    training.run(steps, loss_of)


def train_unet(work, steps):
    """Min-SNR weights, raised where there is little signal; a tenth of the texts is empty, which guidance needs."""
    pool, texts, unet, plan = Pool(), Texts(work), networks.unet(), networks.scheduler()
    reader = learnt(work, "text", Reader(len(texts.tokenizer)))
    training = Training(work, "unet", unet, 2e-3)
    alphas = plan.alphas_cumprod

    def loss_of(step, rng):
        places = pool.draw(rng, ROWS)
        captions = [world.caption(pool.loops[i], rng, full=rng.random() < 0.4) for i in places]
        captions = ["" if rng.random() < 0.1 else text for text in captions]
        with torch.no_grad():
            vectors, _ = reader(texts(captions))
        x = pool.pictures(places)
        times = torch.from_numpy((rng.permutation(ROWS) + rng.random(ROWS)) * 1000 / ROWS).long()
        noise = as_tensor(rng.standard_normal(x.shape, np.float32))
        signal = alphas[times][:, None, None, None]
        noisy = signal.sqrt() * x + (1 - signal).sqrt() * noise
        with bfloat16():
            found = unet(noisy, times, None, class_labels=vectors).sample.float()
        errors = (found - noise).square().mean((1, 2, 3))
        ratio = (signal / (1 - signal)).flatten()
        weights = ratio.clamp(max=5) / ratio * ratio.clamp(max=1) ** -0.5  # noise is easy to foretell in noise alone
        clean = errors / ratio  # of the picture
        return (errors * weights).mean(), errors.mean(), clean[times < 500].mean(), clean[times >= 800].mean()

    training.run(steps, loss_of)


def train_vae(work, steps):
    """The decoder sees latents with some noise, as the UNet will not be exact; the encoder learns every third step."""
    pool, vae, mel = Pool(), networks.vae(), LogMel()
    training = Training(work, "vae", vae, 1.5e-3)

    def loss_of(step, rng):
        rows, lines = (4, 24) if step % 4 else (2, world.LINES)
        first = int(rng.integers(world.LINES - lines + 1))
        places = pool.draw(rng, rows)
        x = pool.pictures(places)[:, :, first : first + lines]
        wanted = mel(pool.sounds(places, first, lines))[:, None]
        noisy = x + as_tensor(rng.uniform(0, 0.5, (rows, 1, 1, 1)) * rng.standard_normal(x.shape))
        with bfloat16():
            found = vae.decoder(vae.post_quant_conv(noisy)).float()
        difference = found - wanted
        loss = difference.abs().mean() + 0.1 * difference.square().mean()
        reading = torch.zeros(())
        if step % 3 == 0:
            with bfloat16():
                moments = vae.quant_conv(vae.encoder(wanted)).float()
            means, spread = moments.chunk(2, 1)
            reading = (means - x).square().mean() + 0.01 * (spread + 4).square().mean()
        return loss + 0.3 * reading, difference.abs().mean(), 3 * reading.detach()

    training.run(steps, loss_of)


class SpectralDistance(nn.Module):
    """Of waveforms: differences of log magnitudes, in mel bands, and of magnitudes, over several windows."""

    def __init__(self):
        super().__init__()
        from mindmusicgen.training.spectral import mel_filters

        sizes = ((2048, 80), (1024, 80), (512, 48), (128, 20))
        self.filters = [(size, torch.tensor(mel_filters(bands, size, world.RATE))) for size, bands in sizes]

    def forward(self, made, sound):
        """A number; 0 where both are alike."""
        total = 0.0
        for size, filters in self.filters:
            window = torch.hann_window(size)
            both = torch.stft(torch.cat([made, sound]), size, size // 4, window=window, return_complex=True)
            magnitude = (both.real.square() + both.imag.square() + 1e-12).sqrt() / window.sum()
            x, y = magnitude.chunk(2)
            a, b = ((one.transpose(1, 2) @ filters + 2e-4).log() for one in (x, y))
            fine = ((x + 1e-4).log() - (y + 1e-4).log()).abs().mean()
            total = total + (a - b).abs().mean() + 0.5 * fine
            total = total + (x - y).square().sum().sqrt() / (y.square().sum().sqrt() + 1e-3)
        return total / len(self.filters)


def train_vocoder(work, steps):
    """From spectrograms of songs; once the autoencoder is there, half of them are painted by it."""
    pool, vocoder, mel, distance = Pool(), networks.vocoder(), LogMel(), SpectralDistance()
    training = Training(work, "vocoder", vocoder, 1.5e-3)
    painter = learnt(work, "vae", networks.vae()) if (work / "vae.pt").exists() else None

    def loss_of(step, rng):
        rows, lines = 5, 10
        first = int(rng.integers(world.LINES - lines + 1))
        places = pool.draw(rng, rows)
        sound = pool.sounds(places, first, lines)
        shown = mel(sound)
        if painter is not None and step % 2:
            shown = painted(painter, pool.pictures(places), rng)[:, 8 * first : 8 * (first + lines)]
        with bfloat16():
            made = networks.play(vocoder, shown)
        spectral = distance(made, sound)
        wave = (made - sound).abs().mean() / (sound.abs().mean() + 1e-3)
        return 2 * spectral + wave, spectral, wave

    training.run(steps, loss_of)


@torch.no_grad()
def painted(painter, pictures, rng):
    """Spectrograms that the decoder makes of latents that are a little off."""
    noisy = pictures + as_tensor(rng.uniform(0, 0.4, (len(pictures), 1, 1, 1)) * rng.standard_normal(pictures.shape))
    with bfloat16():
        return painter.decode(noisy).sample[:, 0].float()


STAGES = {"text": train_text, "unet": train_unet, "vae": train_vae, "vocoder": train_vocoder}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--work", required=True, type=Path, help="folder for checkpoints")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--rate", type=float, default=1.0, help="times the usual learning rate")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    Training.part = arguments.rate
    STAGES[arguments.stage](arguments.work, arguments.steps)


if __name__ == "__main__":
    main()
