"""Train the demo model's EnCodec with torch. Stop it with Ctrl-C; the same command goes on.

    python scripts/demo_model/train_codec.py --output FOLDER [--steps 1800]

The codes are not found by the codec, they are given: a codebook for each player of the band, a code for each of its
states (see `instruments`). The words of a codebook are zero outside the player's share of the vector, so EnCodec's
residual quantisation, which takes each codebook's nearest word in turn, chooses for each player on its own. What is
learnt: the words, a decoder that plays them, and an encoder that hears which states a mix is made of (cross-entropy
over the distances to the words); at the end the encoder alone, which then also hears instruments the band does not
have. The decoder has no biases and silence is the zero vector, so silence is exactly silent.
"""

import argparse
import json
import math
import os
import time

import numpy as np
import torch
from config import SHARE, codec_config
from instruments import FRAME, LEAD_NOTES, PLAYERS, RATE, STATES, frequency, mix, plain, player
from synthesiser import compose, draw_song
from torch import nn
from transformers import EncodecModel

FRAMES = 64  # of a clip
SONG_FRAMES = 768
FIRST_SONG = 100_000  # its seed; evaluation uses seeds below
STATE = "codec.pt"


class Codec(nn.Module):
    """EnCodec's encoder and decoder around a table of words for each player."""

    def __init__(self):
        super().__init__()
        whole = EncodecModel(codec_config())
        self.encoder, self.decoder = whole.encoder, whole.decoder
        self.words = nn.Parameter(torch.randn(len(PLAYERS), STATES, SHARE))
        used = torch.zeros(len(PLAYERS), STATES, 1)
        for place, name in enumerate(PLAYERS):
            for sound in player(name).sounds.values():
                used[place, sound.first : sound.first + sound.attack + sound.loop] = 1
        self.register_buffer("used", used)
        self.sharpness = nn.Parameter(torch.tensor(0.0))
        for name, parameter in self.decoder.named_parameters():
            if "bias" in name:
                nn.init.zeros_(parameter)
                parameter.requires_grad = False

    def table(self):
        """[players, STATES, SHARE]: silence and codes without a sound are zeros."""
        return self.words * self.used

    def vectors(self, codes):
        """[B, players, T] codes -> [B, players * SHARE, T]."""
        table = self.table()
        found = [table[place][codes[:, place]] for place in range(len(PLAYERS))]  # each [B, T, SHARE]
        return torch.cat(found, dim=2).transpose(1, 2)

    def scores(self, audio):
        """How near each frame is to each word: [B, players, T, STATES] logits, highest for the nearest."""
        heard = self.encoder(audio).float()  # [B, players * SHARE, T]
        heard = heard.unflatten(1, (len(PLAYERS), SHARE)).transpose(2, 3)  # [B, players, T, SHARE]
        table = self.table()
        distance = heard.square().sum(-1, keepdim=True) - 2 * heard @ table.transpose(1, 2).unsqueeze(0)
        distance = distance + table.square().sum(-1)[None, :, None]
        spare = (self.used[:, :, 0] == 0) & (torch.arange(STATES) > 0)  # copies of silence must not share its part
        return (-distance * self.sharpness.exp()).masked_fill(spare[None, :, None], -1e9)


def pool(songs):
    """Codes of many songs, [songs, players, SONG_FRAMES]."""
    return np.stack([plain(compose(draw_song(FIRST_SONG + i), SONG_FRAMES)) for i in range(songs)])


def draw_batch(codes, rng, rows):
    """Clips: half of one song each, half with every player from another song, some players missing."""
    made = np.zeros((rows, len(PLAYERS), FRAMES), np.int64)
    for row in range(rows):
        same = rng.random() < 0.6
        song, start = rng.integers(len(codes)), rng.integers(SONG_FRAMES - FRAMES)
        for place in range(len(PLAYERS)):
            if not same:
                song, start = rng.integers(len(codes)), rng.integers(SONG_FRAMES - FRAMES)
            if same or rng.random() < 0.8:
                made[row, place] = codes[song, place, start : start + FRAMES]
    return made, np.stack([mix(row) for row in made])


def foreign_lead(rng):
    """A tune on an instrument that the band does not have, and the lead's states that come nearest to it.

    Its notes may lie anywhere; what lies outside the lead's range is heard an octave or two higher or lower.
    """
    band, codes = player("lead"), np.zeros(FRAMES, np.int64)
    wave = np.zeros(FRAMES * FRAME)
    slope, decay, attack = (
        rng.uniform(0.7, 2.5),
        rng.choice([rng.uniform(0, 1.5), rng.uniform(3, 9)]),
        rng.uniform(0.002, 0.03),
    )
    weights = np.arange(1, 13.0) ** -slope * rng.uniform(0.5, 1.0, 12)
    instrument = "bells" if decay > 2 else "flute" if slope > 1.3 else "square lead"
    start, each = int(rng.integers(0, 8)), int(rng.integers(5, 24))
    midi = int(rng.integers(50, 88))
    while start < FRAMES:
        length = min(each * int(rng.choice([1, 1, 2])), FRAMES - start)
        near = midi + 12 * round((75 - midi) / 12)
        note = min(LEAD_NOTES, key=lambda other: (abs(other - near), other))
        states = band.sounds[instrument, note].states(length)
        codes[start : start + len(states)] = states
        t = np.arange(length * FRAME) / RATE
        tone = sum(
            w * np.sin(2 * np.pi * frequency(midi) * k * t)
            for k, w in enumerate(weights, 1)
            if frequency(midi) * k < 12000
        )
        tone *= np.exp(-decay * t) * np.minimum(t / attack, 1) * np.minimum((t[-1] - t) / 0.005, 1)
        wave[start * FRAME : (start + length) * FRAME] = tone
        start += length
        midi = int(np.clip(midi + rng.choice([-7, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 7, 0]), 45, 90))
    return codes, wave * rng.uniform(0.04, 0.12) / (np.sqrt(np.mean(wave**2)) + 1e-6)


def draw_foreign(codes, rng, rows):
    """Clips for the encoder alone: every third has a foreign instrument for its lead, half of these with the band."""
    made, audio = draw_batch(codes, rng, rows)
    for row in range(0, rows, 3):
        if row % 2:
            made[row] = 0
        made[row, 3], wave = foreign_lead(rng)
        audio[row] = mix(made[row], heard=("drums", "chords", "bass")) + wave
    return made, audio.astype(np.float32)


def mel_filters(bands, size):
    """[size // 2 + 1, bands] triangular filters, each with sum 1."""
    from mindmusicgen.training.spectral import mel_filters as filters

    return torch.tensor(filters(bands, size, RATE))


class SpectralDistance(nn.Module):
    """Mean difference of log-mel spectrograms, and of magnitudes, over several windows."""

    def __init__(self, resolutions=((2048, 80), (512, 48), (128, 20))):
        super().__init__()
        self.resolutions = resolutions
        self.filters = [mel_filters(bands, size) for size, bands in resolutions]

    def forward(self, made, audio):
        logarithmic, linear = 0.0, 0.0
        both = torch.cat([made, audio])
        for (size, _), filters in zip(self.resolutions, self.filters, strict=True):
            window = torch.hann_window(size)
            magnitude = torch.stft(both, size, size // 4, window=window, return_complex=True).abs() / window.sum()
            mels = (magnitude.transpose(1, 2) @ filters + 2e-4).log()
            x, y = mels.chunk(2)
            logarithmic = logarithmic + (x - y).abs().mean()
            x, y = magnitude.chunk(2)
            linear = linear + (x - y).square().sum().sqrt() / y.square().sum().sqrt()
        return logarithmic / len(self.filters), linear / len(self.filters)


def hear(codec, codes, audio, rng, half):
    """The encoder's cross-entropy and share of right states, of sound at any loudness and with a little noise."""
    gain = torch.from_numpy(rng.uniform(0.6, 1.3, (len(audio), 1)).astype(np.float32))
    noise = torch.from_numpy((1e-3 * rng.random((len(audio), 1)) * rng.standard_normal(audio.shape)).astype(np.float32))
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        scores = codec.scores((audio * gain + noise)[:, None])
    return nn.functional.cross_entropy(scores.flatten(0, 2), codes.flatten()), (
        scores.argmax(-1) == codes
    ).float().mean((0, 2))


def train_step(codec, distance, codes, audio, rng, half):
    """One batch's losses: all; then log-mel, convergence, waveform, the encoder's, and its share of right states."""
    codes, audio = torch.from_numpy(codes), torch.from_numpy(audio)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        made = codec.decoder(codec.vectors(codes)).float()[:, 0]
    logarithmic, linear = distance(made, audio)
    waveform = (made - audio).abs().mean()
    hearing, right = hear(codec, codes, audio, rng, half)
    return logarithmic + linear + 10 * waveform + hearing, (logarithmic, linear, waveform, hearing, *right)


def hearing_step(codec, codes, audio, rng, half):
    """The same of the encoder alone, whose words and decoder stay."""
    hearing, right = hear(codec, torch.from_numpy(codes), torch.from_numpy(audio), rng, half)
    return hearing, (torch.zeros(()),) * 3 + (hearing, *right)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, help="folder for checkpoints and curves")
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument("--rows", type=int, default=8, help="clips in a batch")
    parser.add_argument(
        "--hearing-steps", type=int, default=1300, help="more steps of the encoder, with foreign instruments"
    )
    parser.add_argument("--songs", type=int, default=3000)
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    parser.add_argument("--half", action="store_true", help="products in bfloat16")
    parser.add_argument("--threads", type=int, default=1, help="one is as fast as two where cores are shared")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    os.makedirs(arguments.output, exist_ok=True)
    path = os.path.join(arguments.output, STATE)
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    codec, distance = Codec(), SpectralDistance()
    trained = [parameter for parameter in codec.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=arguments.learning_rate, betas=(0.8, 0.98), weight_decay=1e-4)
    first, curves = 0, []
    if os.path.exists(path):
        state = torch.load(path, weights_only=True)
        codec.load_state_dict(state["codec"])
        optimizer.load_state_dict(state["optimizer"])
        first, curves = state["step"], state["curves"]
    codes = pool(arguments.songs)
    began, sums, steps = time.time(), [], arguments.steps + arguments.hearing_steps
    for step in range(first, steps):
        alone = step >= arguments.steps
        done = (step - arguments.steps) / arguments.hearing_steps if alone else step / arguments.steps
        rate = arguments.learning_rate * min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * done)) + 1e-5
        for group in optimizer.param_groups:
            group["lr"] = rate / 3 if alone else rate
        rng = np.random.default_rng([arguments.seed, step])
        if alone:
            codec.decoder.requires_grad_(False)
            codec.words.requires_grad_(False)
            loss, parts = hearing_step(codec, *draw_foreign(codes, rng, 2 * arguments.rows), rng, arguments.half)
        else:
            loss, parts = train_step(codec, distance, *draw_batch(codes, rng, arguments.rows), rng, arguments.half)
        optimizer.zero_grad()
        loss.backward()
        for part in (codec.encoder, codec.decoder):
            torch.nn.utils.clip_grad_norm_(part.parameters(), 1.0)
        optimizer.step()
        sums.append([float(part.detach()) for part in parts])
        if (step + 1) % 50 == 0 or step + 1 == steps:
            curves.append([step + 1, *map(float, np.mean(sums, axis=0))])
            sums = []
            left = (time.time() - began) / (step + 1 - first) * (steps - step - 1)
            means = " ".join(f"{value:.3f}" for value in curves[-1][1:])
            print(f"step {step + 1}: {means}, {left / 60:.0f} min left", flush=True)
            state = {
                "codec": codec.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step + 1,
                "curves": curves,
            }
            torch.save(state, path + ".new")
            os.replace(path + ".new", path)
            with open(os.path.join(arguments.output, "curves.json"), "w", encoding="utf-8") as file:
                json.dump(curves, file)


if __name__ == "__main__":
    main()
