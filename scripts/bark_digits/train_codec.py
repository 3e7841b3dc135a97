"""Train the codec of the tiny Bark with torch. Stop it with Ctrl-C; the same command goes on.

    python scripts/bark_digits/train_codec.py --work FOLDER [--steps 3000]

The codes and the codebooks' vectors are given (see `data`); what is learnt is a decoder that plays them, from all
codebooks or the first two, and an encoder that hears the vectors, so that a recording has codes too.
"""

import argparse
import math
import os
import time

import numpy as np
import torch
from config import CODEC_CONFIG
from data import BOOKS, HOP, RATE, VOICES, digits_of, draw_text
from torch import nn
from transformers import EncodecModel

from mindmusicgen.training.spectral import mel_filters

FRAMES = 72  # of a clip
STATE = "codec.pt"
RESOLUTIONS = ((2048, 80), (512, 48), (128, 20))  # window, mels


class SpectralDistance(nn.Module):
    """Of each pair of waveforms: differences of log-mel spectrograms, and of magnitudes, over several windows."""

    def __init__(self):
        super().__init__()
        self.filters = [torch.tensor(mel_filters(bands, size, RATE)) for size, bands in RESOLUTIONS]

    def forward(self, made, audio):
        total = 0.0
        for (size, _), filters in zip(RESOLUTIONS, self.filters, strict=True):
            window = torch.hann_window(size)
            both = torch.stft(torch.cat([made, audio]), size, size // 4, window=window, return_complex=True)
            magnitude = (both.real.square() + both.imag.square() + 1e-12).sqrt() / window.sum()
            x, y = magnitude.chunk(2)
            a, b = ((one.transpose(1, 2) @ filters + 2e-4).log() for one in (x, y))
            total = total + (a - b).abs().mean() + (x - y).square().sum().sqrt() / y.square().sum().sqrt()
        return total / len(RESOLUTIONS)


def clips(digits, rng, rows, frames):
    """Codes [rows, BOOKS, frames] and audio [rows, samples] of beginnings of texts."""
    codes, audio = np.zeros((rows, BOOKS, frames), np.int64), np.zeros((rows, frames * HOP), np.float32)
    for row in range(rows):
        voice, slow = str(rng.choice(list(VOICES))), bool(rng.random() < 0.3)
        _, code, wave = digits.say(draw_text(rng), voice, slow)
        first = 0
        if rng.random() < 0.4 and code.shape[1] > frames:  # the last words of texts too
            first = code.shape[1] - frames
        n = min(frames, code.shape[1] - first)
        codes[row] = np.tile(digits.silence[1][:, :1], frames)
        codes[row, :, :n] = code[:, first : first + n]
        audio[row, : n * HOP] = wave[first * HOP :][: n * HOP]
    return torch.from_numpy(codes), torch.from_numpy(audio)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", required=True, help="folder for checkpoints")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--rows", type=int, default=6, help="clips in a batch")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    arguments = parser.parse_args()
    path = os.path.join(arguments.work, STATE)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    digits, codec, distance = digits_of(arguments.work), EncodecModel(CODEC_CONFIG), SpectralDistance()
    books = torch.from_numpy(digits.codebooks)
    optimizer = torch.optim.AdamW(codec.parameters(), lr=arguments.learning_rate, betas=(0.8, 0.98), weight_decay=1e-4)
    first, sums, began = 0, [], time.time()
    if os.path.exists(path):
        state = torch.load(path, weights_only=True)
        codec.load_state_dict(state["codec"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    for step in range(first, arguments.steps):
        done = step / arguments.steps
        rate = arguments.learning_rate * min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * done)) + 1e-5
        for group in optimizer.param_groups:
            group["lr"] = rate
        rng = np.random.default_rng(step)
        codes, audio = clips(digits, rng, arguments.rows, FRAMES)
        looked_up = torch.stack([books[k][codes[:, k]] for k in range(BOOKS)])  # [BOOKS, rows, frames, WIDTH]
        rough = torch.zeros(arguments.rows, dtype=torch.bool)
        rough[: arguments.rows // 6] = True  # these from two codebooks alone
        vectors = torch.where(rough[:, None, None], looked_up[:2].sum(0), looked_up.sum(0)).transpose(1, 2)
        made = codec.decoder(vectors)[:, 0]
        spectral = distance(made, audio)
        waveform = (made - audio)[~rough].abs().mean() / audio.abs().mean()
        loss = 2 * spectral + 0.5 * waveform
        hearing = torch.zeros(())
        if step % 4 == 0:
            gain = torch.from_numpy(rng.uniform(0.8, 1.2, (arguments.rows, 1, 1)).astype(np.float32))
            hearing = (codec.encoder(audio[:, None] * gain) - looked_up.sum(0).transpose(1, 2)).square().mean()
            loss = loss + hearing
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(codec.decoder.parameters(), 1.0)
        torch.nn.utils.clip_grad_norm_(codec.encoder.parameters(), 1.0)
        optimizer.step()
        sums.append([float(one.detach()) for one in (spectral, waveform)] + ([float(hearing.detach())]))
        if (step + 1) % 50 == 0 or step + 1 == arguments.steps:
            means = np.sum(sums, axis=0) / [len(sums), len(sums), len(sums) / 4]
            left = (time.time() - began) / (step + 1 - first) * (arguments.steps - step - 1)
            print(f"step {step + 1}: " + " ".join(f"{v:.3f}" for v in means), f"{left / 60:.0f} min left", flush=True)
            sums = []
            state = {"codec": codec.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            torch.save(state, path + ".new")
            os.replace(path + ".new", path)


if __name__ == "__main__":
    main()
