"""Measure the demo model on songs and prompts held out from training; prints tables, writes plots.

    python scripts/demo_model/evaluate.py [--model demo] [--songs 60] [--prompts 40] [--plots FOLDER]

Codec: distances between songs and what the codec makes of them, and how much of each codebook is used. Language model:
cross-entropy per codebook beside a unigram and a bigram count model. Prompts: whether the music has the tempo, the
drums, the accent and the brightness that its prompt asks for, beside the same measures against another prompt's wishes.
"""

import argparse
import os

import numpy as np
from captions import caption, english
from measure import accent, brightness, faults, has_drums, si_sdr, spectrogram, stft_distance, tempo, tempo_error
from synthesiser import RATE, draw_song, render

from mindmusicgen import MusicgenForConditionalGeneration, MusicgenProcessor, write_audio
from mindmusicgen.training.language_model import LanguageModelLoss, delayed_columns
from mindmusicgen.training.spectral import mel_filters

FRAMES = 512
SONGS, PROMPTS = 10_000, 50_000  # first seeds; training uses seeds from 100,000 on
TOLERANCE = 0.08
DARK = -2.18  # see `brightness`
SHOWN = 5  # seconds of a sound that is drawn
EXAMPLES = [
    "upbeat 80s pop with drums and synth bass, 120 bpm",
    "slow ambient piece with synth pads, no drums, 70 bpm",
    "fast bright chiptune with drums, 160 bpm",
]


def held_out(count):
    """Songs [count, 1, samples] of 10.24 s and what they are."""
    songs = [song for song in map(draw_song, range(SONGS, SONGS + 2 * count)) if song.seconds > 10.3][:count]
    samples = FRAMES * 640
    return songs, np.stack([render(song)[None, :samples] for song in songs])


def measure_codec(model, audio, codes, decoded, plots):
    """Print how much the codec loses."""
    mels = mel_filters(80, 2048, RATE)
    rows = []
    for x, y in zip(audio[:, 0], decoded[:, 0], strict=True):
        a, b = (np.log(spectrogram(wave, 2048, 512) @ mels * 2 / 2048 + 2e-4) for wave in (x, y))
        rows.append((np.abs(a - b).mean(), *stft_distance(x, y), si_sdr(x, y), *faults(y)))
    values = np.array(rows)
    names = ("log-mel distance, nats", "spectral convergence", "log-STFT distance, nats", "SI-SDR, dB")
    for name, column in zip(
        (*names, "clipped samples", "mean", "jumps at frame borders / elsewhere"), values.T, strict=True
    ):
        print(f"  {name:38}{np.median(column):9.3f}")
    for k in range(codes.shape[1]):
        counts = np.bincount(codes[:, k].ravel(), minlength=model.config.decoder.vocab_size) / codes[:, k].size
        entropy = -(counts[counts > 0] * np.log2(counts[counts > 0])).sum()
        used, full = (counts > 0).mean(), np.log2(len(counts))
        print(f"  codebook {k}: {used:6.1%} of the codes used, {entropy:.2f} bits of {full:.0f}")
    if plots:
        plot_spectrograms([audio[:3, 0], decoded[:3, 0]], os.path.join(plots, "codec.png"))
        for name, wave in (("before", audio[0]), ("after", decoded[0])):
            write_audio(os.path.join(plots, f"codec-{name}.ogg"), wave[:, : SHOWN * RATE], RATE)


def baseline_cross_entropy(train, test, size, order):
    """Nats per code of a count model with one added to every count; order 1 ignores, 2 sees the code before."""
    if order == 1:
        counts = np.bincount(train.ravel(), minlength=size) + 1.0
        return float(-np.log(counts / counts.sum())[test].mean())
    counts = np.zeros((size, size))
    np.add.at(counts, (train[:, :-1].ravel(), train[:, 1:].ravel()), 1)
    single = np.bincount(train.ravel(), minlength=size) + 1.0
    counts += 5 * single / single.sum()  # rare pairs fall back to how common the code is
    logs = np.log(counts / counts.sum(axis=1, keepdims=True))
    return float(-logs[test[:, :-1], test[:, 1:]].mean())


def measure_language_model(model, processor, songs, codes, train_codes):
    """Print cross-entropy per codebook: with captions, without, and of the count models."""
    import mindspore as ms

    loss = LanguageModelLoss(model)
    run = ms.jit(loss.construct, fullgraph=True)
    sums, rows = np.zeros((2, codes.shape[1])), 6
    groups = len(codes) // rows
    for group in range(groups):
        chosen = slice(group * rows, (group + 1) * rows)
        texts = processor.tokenizer(
            [caption(song, 99) for song in songs[chosen]], padding="max_length", max_length=48, truncation=True
        )
        ids, mask = (ms.Tensor(np.int32(texts[name])) for name in ("input_ids", "attention_mask"))
        columns = ms.Tensor(delayed_columns(list(codes[chosen]), FRAMES, model.pad_code))
        for heard in (0, 1):
            _, parts = run(ids, mask, ms.Tensor(np.full(rows, heard, np.float32)), columns)
            sums[heard] += [float(part.asnumpy()) for part in parts]
    print(f"  {'nats per code':20}{'with text':>11}{'without':>10}{'unigram':>10}{'bigram':>10}{'below unigram':>16}")
    size = model.config.decoder.vocab_size
    for k, (without, given) in enumerate((sums / groups).T):
        one, two = (baseline_cross_entropy(train_codes[:, k], codes[:, k], size, order) for order in (1, 2))
        print(f"  codebook {k:<11}{given:11.3f}{without:10.3f}{one:10.3f}{two:10.3f}{1 - given / one:15.1%}")


def prompts(count):
    """Captions that name a tempo and say whether there are drums, and the songs they would describe."""
    songs = list(map(draw_song, range(PROMPTS, PROMPTS + count)))
    texts = [english(song, np.random.default_rng([song.seed, 9]), True, True) for song in songs]
    return songs, texts


def judge(audio, song):
    """Whether a sound is what a song's caption says: strict tempo, tempo up to octaves, drums, accent, brightness."""
    strict, loose = tempo_error(tempo(audio), song.bpm)
    three = accent(audio, song.bpm) > 0
    bright = None if song.tone == "neutral" else (brightness(audio) > DARK) == (song.tone == "bright")
    return (
        strict <= TOLERANCE,
        loose <= TOLERANCE,
        has_drums(audio) == bool(song.drums),
        three == (song.meter == 3),
        bright,
    )


def shares(judgements):
    """Mean of each judgement, leaving out those that do not apply."""
    return [np.mean([j[i] for j in judgements if j[i] is not None]) for i in range(len(judgements[0]))]


def measure_prompts(model, processor, count, guidances, batch=8, seconds=10):
    """Print how often the music is what its prompt says; returns the audio of the best-known guidance."""
    songs, texts = prompts(count)
    print(f"  {'':24}{'tempo':>8}{'tempo,':>9}{'drums':>8}{'3 or 4':>8}{'bright':>8}")
    print(f"  {'':24}{'':>8}{'octaves':>9}{'':>8}{'':>8}{'or dark':>8}")

    def line(name, judgements):
        print(f"  {name:24}" + "".join(f"{share:8.1%}" for share in shares(judgements)), flush=True)

    waves = [np.resize(render(song), seconds * RATE) for song in songs]
    line("songs themselves", [judge(wave, song) for wave, song in zip(waves, songs, strict=True)])
    waves = [model.decode(model.encode(wave[None, None])).asnumpy()[0, 0] for wave in waves]
    line("songs from the codec", [judge(wave, song) for wave, song in zip(waves, songs, strict=True)])
    kept = {}
    for guidance in guidances:
        made = []
        for start in range(0, count, batch):
            inputs = processor(texts[start : start + batch])
            made += list(
                model.generate(**inputs, guidance_scale=guidance, max_new_tokens=seconds * 50 + 3, seed=start).asnumpy()
            )
        kept[guidance] = [clip[0] for clip in made]
        line(f"guidance {guidance:g}", [judge(clip, song) for clip, song in zip(kept[guidance], songs, strict=True)])
        shifted = songs[1:] + songs[:1]
        line("  another prompt's", [judge(clip, song) for clip, song in zip(kept[guidance], shifted, strict=True)])
    return texts, kept


def show_examples(model, processor, plots):
    """Music for EXAMPLES: sound files and a picture."""
    made = model.generate(**processor(EXAMPLES), max_new_tokens=503, seed=1).asnumpy()[:, 0]
    for number, wave in enumerate(made, 1):
        write_audio(os.path.join(plots, f"example-{number}.ogg"), wave[None], RATE)
    plot_spectrograms([made[:, : SHOWN * RATE]], os.path.join(plots, "examples.png"))


def plot_spectrograms(rows, path):
    """Log spectrograms of waveforms, in rows."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(rows[0]), 2.5 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), len(rows[0])).ravel()
    for axes, wave in zip(panels, [wave for row in rows for wave in row], strict=True):
        image = np.log(spectrogram(wave) + 1e-2).T
        axes.imshow(image, origin="lower", aspect="auto", extent=(0, len(wave) / RATE, 0, RATE / 2000), cmap="magma")
        axes.set(xlabel="seconds", ylabel="kHz")
    figure.savefig(path, dpi=70)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--codes", help="codes.npz of train_language_model.py, for the count models")
    parser.add_argument("--songs", type=int, default=60)
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--guidance", type=float, nargs="*", default=[1, 3, 5])
    parser.add_argument("--plots", help="folder for pictures")
    arguments = parser.parse_args()
    model = MusicgenForConditionalGeneration.from_pretrained(arguments.model)
    processor = MusicgenProcessor.from_pretrained(arguments.model)
    songs, audio = held_out(arguments.songs)
    parts = [audio[i : i + 4] for i in range(0, len(audio), 4)]
    codes = np.concatenate([model.encode(part).asnumpy() for part in parts])
    decoded = np.concatenate([model.decode(codes[i : i + 4]).asnumpy() for i in range(0, len(codes), 4)])
    print(f"codec, {len(songs)} held-out songs, medians")
    measure_codec(model, audio, codes, decoded, arguments.plots)
    if arguments.codes:
        print(f"language model, {len(songs) // 6 * 6} held-out songs")
        measure_language_model(model, processor, songs, codes, np.load(arguments.codes)["codes"])
    if arguments.prompts:
        print(f"prompts, {arguments.prompts} held out, 10 s each")
        measure_prompts(model, processor, arguments.prompts, arguments.guidance)
    if arguments.plots:
        show_examples(model, processor, arguments.plots)


if __name__ == "__main__":
    main()
