"""Measure the demo model on songs and prompts held out from training; prints tables, writes them with pictures.

    python scripts/demo_model/evaluate.py [--model demo] [--songs 48] [--prompts 48] [--seeds 3] [--output docs/demo]

Each number of generated music stands beside the songs that its prompts describe, these songs through the codec, and
another prompt's wish, which is what chance gives. All measures are in `measure`.
"""

import argparse
import json
import os

import numpy as np
from captions import english, instruments
from instruments import PLAYERS, plain
from measure import (
    Judge,
    border_clicks,
    held,
    key_fit,
    level,
    librosa_tempo,
    log_mel_distance,
    longest_silence,
    pulse,
    spectrogram,
    tempo,
    tempo_error,
)  # fmt: skip
from synthesiser import FRAME_RATE, RATE, compose, draw_song, mix

from mindmusicgen import MusicgenForConditionalGeneration, MusicgenProcessor, write_audio
from mindmusicgen.musicgen.training.language_model import delayed_columns

SONGS, PROMPTS, JUDGED = 10_000, 50_000, 70_000  # first seeds; training uses seeds from 100,000 on
SECONDS = 10
TOLERANCE = 0.04
BATCH = 8
EXAMPLES = (
    "upbeat 80s pop with drums and synth bass, 125 bpm",
    "fast bright chiptune with drums, 150 bpm",
    "dark lo-fi hip hop with electric piano, drums and flute, 83 bpm",
    "energetic techno with synth bass, drums and square lead, 136 bpm",
    "happy rock with guitar and drums, 136 bpm",
    "jazz with piano, upright bass, bells and drums, 125 bpm",
    "slow ambient with synth pads and bells, no drums, 60 bpm",
    "waltz with piano and flute, 3/4, 150 bpm",
)


def progress(text):
    """A line that shows how far a long evaluation is."""
    print(f"... {text}", flush=True)


def through_codec(model, waves):
    """(codes, waveforms) of waveforms that have passed the codec."""
    codes, made = [], []
    for start in range(0, len(waves), BATCH):
        part = model.encode(np.stack(waves[start : start + BATCH])[:, None])
        codes.append(part.asnumpy())
        made.append(model.decode(part).asnumpy()[:, 0])
    return np.concatenate(codes), list(np.concatenate(made))


def held_out(first, count, seconds=SECONDS):
    """Songs, their codes [count, K, frames] and their sound."""
    songs = [draw_song(first + i) for i in range(count)]
    codes = np.stack([compose(song, seconds * FRAME_RATE) for song in songs]).astype(np.int32)
    return songs, codes, [mix(row) for row in codes]


def with_beat(song):
    """Whether something marks the beat: drums, or chords, bass or lead that are struck again and again."""
    manners = [part[1] for part in (song.bass, song.chords) if part]
    return bool(song.drums) or any(manner not in ("held", "long") for manner in manners)


def measure_codec(model, songs, codes, waves):
    """How much the codec loses, and whether its codes can be foretold."""
    found, made = through_codec(model, waves)
    _, again = through_codec(model, made)
    beat = [i for i, song in enumerate(songs) if with_beat(song)]
    silent = model.decode(model.encode(np.zeros((1, 1, 3 * RATE), np.float32))).asnumpy()[0, 0]
    rows = {
        "states heard right, drums chords bass lead": (found == plain(codes)).mean(axis=(0, 2)).round(3).tolist(),
        "log-mel distance, nats (median)": np.median(
            [log_mel_distance(x, y) for x, y in zip(waves, made, strict=True)]
        ),
        "log-mel distance of the true codes": np.median(
            [log_mel_distance(x, model.decode(c[None]).asnumpy()[0, 0]) for x, c in zip(waves, codes, strict=True)]
        ),
        "pulse, of the songs'": np.mean([pulse(made[i]) for i in beat]) / np.mean([pulse(waves[i]) for i in beat]),
        "key fit, of the songs'": np.mean([key_fit(y)[0] for y in made]) / np.mean([key_fit(x)[0] for x in waves]),
        "a second pass, log-mel distance to the first": np.median(
            [log_mel_distance(x, y) for x, y in zip(made, again, strict=True)]
        ),
        "silence, dBFS": level(silent),
        "clicks at frames' borders (1 is none)": np.median([border_clicks(y) for y in made]),
        "samples at full scale": float(np.mean([np.mean(np.abs(y) >= 0.999) for y in made])),
    }
    return rows, made


def one_step_samples(model, processor, songs, codes, temperature=1.0, seed=0):
    """Codes drawn one step at a time, each given the real past, [songs, K, frames]; and nats a code, [K]."""
    rng, made, nats = np.random.default_rng(seed), [], []
    books, frames = codes.shape[1:]
    for start in range(0, len(songs), BATCH):
        part = codes[start : start + BATCH]
        texts = [english(song, np.random.default_rng([song.seed, 9])) for song in songs[start : start + BATCH]]
        inputs = processor(texts, padding=True, return_tensors="np")
        columns = delayed_columns(list(part), frames, model.pad_code)
        logits = model(
            inputs["input_ids"], inputs["attention_mask"],
            decoder_input_ids=columns[:, :, :-1].reshape(len(part) * books, -1),
        ).logits.asnumpy()  # fmt: skip
        logits = logits.reshape(len(part), books, columns.shape[2] - 1, -1)
        drawn, cost = np.empty_like(part), np.zeros(books)
        for book in range(books):
            given = logits[:, book, book : book + frames].astype(np.float64)
            given -= given.max(-1, keepdims=True)
            logs = given - np.log(np.exp(given).sum(-1, keepdims=True))
            cost[book] = -np.take_along_axis(logs, part[:, book, :, None].astype(np.int64), -1).mean()
            drawn[:, book] = np.argmax(logs / temperature + rng.gumbel(size=logs.shape), axis=-1)
        made.append(drawn)
        nats.append(cost)
    return np.concatenate(made), np.mean(nats, axis=0)


def measure_foretelling(model, processor, songs, codes, through):
    """Whether one-step samples keep the beat, and nats a code beside count models."""
    beat = [i for i, song in enumerate(songs) if with_beat(song)]
    drawn, nats = one_step_samples(model, processor, songs, codes)
    sound = [model.decode(row[None]).asnumpy()[0, 0] for row in drawn]
    counts = [np.bincount(codes[:, book].ravel(), minlength=model.config.decoder.vocab_size) for book in range(4)]
    unigram = [float(-(c[c > 0] / c.sum() * np.log(c[c > 0] / c.sum())).sum()) for c in counts]
    return {
        "one-step samples equal the song's codes": (drawn == codes).mean(axis=(0, 2)).round(3).tolist(),
        "their pulse, of the songs' through the codec": np.mean([pulse(sound[i]) for i in beat])
        / np.mean([pulse(through[i]) for i in beat]),
        "nats a code": nats.round(3).tolist(),
        "entropy of each codebook": np.round(unigram, 2).tolist(),
    }


def labels(song):
    """What the classifier learns to tell."""
    return {"style": song.style, "tone": song.tone, "drums": bool(song.drums)} | {
        name: name in instruments(song) for name in ("piano", "guitar", "synth bass", "flute", "bells")
    }


def heard(wave, song, judge):
    """Whether a sound is what a song's caption says, and what it is by itself."""
    told, wished = judge(wave), labels(song)
    beat = with_beat(song)
    return {
        "tempo within 4 %": tempo_error(tempo(wave), song.bpm, song.meter) <= TOLERANCE if beat else None,
        "the same by librosa's own tempo": tempo_error(librosa_tempo(wave), song.bpm, song.meter) <= TOLERANCE
        if beat
        else None,
        "pulse": pulse(wave) if beat else None,
        "drums as asked": told["drums"] == wished["drums"],
        "style as asked": told["style"] == wished["style"],
        "bright or dark as asked": told["tone"] == wished["tone"],
        "key fit": key_fit(wave)[0],
        "in the asked mode": key_fit(wave)[2] == song.mode,
        "no silence beyond 0.5 s": longest_silence(wave) <= max(0.5, song_silence(song)),
    }


def song_silence(song):
    """Seconds of the longest silence in the song itself."""
    return longest_silence(mix(compose(song, SECONDS * FRAME_RATE)))


def table(rows):
    """Mean of each measure, leaving out those that do not apply."""
    return {name: float(np.mean([row[name] for row in rows if row[name] is not None])) for name in rows[0]}


def prompts(count):
    """Captions that name tempo, drums, style and tone, and the songs they describe."""
    songs = [draw_song(PROMPTS + i) for i in range(count)]
    return songs, [full_caption(song) for song in songs]


def full_caption(song):
    """A caption of the card's words that says what `heard` asks for."""
    rng = np.random.default_rng([song.seed, 9])
    for _ in range(1000):
        text = english(song, rng, True, True)
        if any(word in text.lower() for word in STYLE_WORDS[song.style]) and any(
            word in text.lower() for word in TONE_WORDS[song.tone]
        ):
            return text
    raise RuntimeError(f"no caption of song {song.seed} names its style and tone")


def _words():
    from captions import STYLES, TONES

    return {name: STYLES[name][0] for name in STYLES}, {name: TONES[name][0] for name in TONES}


STYLE_WORDS, TONE_WORDS = _words()


def generate(model, processor, texts, seed, seconds=SECONDS, **settings):
    """Waveforms and codes for texts, piece i with seed + i."""
    waves, codes = [], []
    for start in range(0, len(texts), BATCH):
        inputs = processor(texts[start : start + BATCH], padding=True, return_tensors="ms")
        made = model.generate(
            **inputs, duration=seconds, seed=seed + start, return_dict_in_generate=True, progress=False, **settings
        )
        waves += list(made.audio_values.asnumpy()[:, 0])
        codes += list(made.audio_codes.asnumpy())
        progress(f"{min(start + BATCH, len(texts))} of {len(texts)} pieces of {seconds} s")
    return waves, codes


def measure_prompts(model, processor, judge, count, seeds, **settings):
    """Tables for songs, songs through the codec, generated music and another prompt's wish; and held codes."""
    songs, texts = prompts(count)
    codes = np.stack([compose(song, SECONDS * FRAME_RATE) for song in songs])
    waves = [mix(row) for row in codes]
    found, through = through_codec(model, waves)
    tables = {
        "songs": table([heard(wave, song, judge) for wave, song in zip(waves, songs, strict=True)]),
        "songs through the codec": table([heard(wave, song, judge) for wave, song in zip(through, songs, strict=True)]),
    }
    own, other, stay = [], [], []
    for seed in range(seeds):
        made, drawn = generate(model, processor, texts, 1000 * seed, **settings)
        own += [heard(wave, song, judge) for wave, song in zip(made, songs, strict=True)]
        other += [heard(wave, song, judge) for wave, song in zip(made, songs[1:] + songs[:1], strict=True)]
        stay += [held(row) for row in drawn]
    tables |= {"generated": table(own), "another prompt's wish": table(other)}
    return tables, {
        "held codes, generated": np.mean(stay, axis=0).round(3).tolist(),
        "held codes, songs": np.mean([held(row) for row in codes], axis=0).round(3).tolist(),
        "held codes, songs through the codec": np.mean([held(row) for row in found], axis=0).round(3).tolist(),
    }


def measure_long(model, processor, count=12, seconds=60):
    """The pulse and tempo at the end of a minute, beside its beginning."""
    songs = [song for song in (draw_song(PROMPTS + 500 + i) for i in range(4 * count)) if with_beat(song)][:count]
    waves, _ = generate(model, processor, [full_caption(song) for song in songs], 77, seconds)
    first, last = [wave[: SECONDS * RATE] for wave in waves], [wave[-SECONDS * RATE :] for wave in waves]
    right = [
        tempo_error(tempo(wave), song.bpm, song.meter) <= TOLERANCE for wave, song in zip(last, songs, strict=True)
    ]
    return {
        "pulse of the first and of the last ten seconds": [np.mean([pulse(w) for w in part]) for part in (first, last)],
        "tempo within 4 % in the last ten seconds": np.mean(right),
        "key fit of the last ten seconds": np.mean([key_fit(wave)[0] for wave in last]),
    }


def train_judge(model, count):
    """The classifier, from songs and songs through the codec."""
    songs, _, waves = held_out(JUDGED, count)
    _, through = through_codec(model, waves[: count // 2])
    judge = Judge().fit([*waves, *through], [labels(song) for song in [*songs, *songs[: count // 2]]])
    tried, _, waves = held_out(JUDGED + 5000, 60)
    right = [judge(wave)["style"] == song.style for wave, song in zip(waves, tried, strict=True)]
    progress(f"the classifier tells the style of {np.mean(right):.0%} of 60 other songs")
    return judge


def show_examples(model, processor, folder):
    """Music for EXAMPLES with seed 1, as sound files and a picture."""
    from matplotlib.figure import Figure

    waves, _ = generate(model, processor, list(EXAMPLES), 1)
    figure = Figure(figsize=(16, 5), layout="constrained")
    for number, (axes, wave, text) in enumerate(zip(figure.subplots(2, 4).ravel(), waves, EXAMPLES, strict=True), 1):
        write_audio(os.path.join(folder, f"example-{number}.ogg"), wave[None], RATE)
        image = np.log(spectrogram(wave[: 6 * RATE]) + 1e-2).T[:256]
        axes.imshow(image, origin="lower", aspect="auto", extent=(0, 6, 0, RATE / 4000), cmap="magma")
        axes.set_title(text.split(",")[0][:44], fontsize=9)
        axes.set(xlabel="seconds", ylabel="kHz")
    figure.savefig(os.path.join(folder, "examples.png"), dpi=60)


def show_codec(model, song, folder):
    """A song before and after the codec, as sound and as a picture, and each player alone after it."""
    from matplotlib.figure import Figure

    codes = plain(compose(song, 5 * FRAME_RATE))
    before = mix(codes)
    found = model.encode(before[None, None]).asnumpy()
    after = model.decode(found).asnumpy()[0, 0]
    alone = []
    for book in range(len(PLAYERS)):
        muted = np.zeros_like(found)
        muted[:, book] = found[:, book]
        alone.append(model.decode(muted).asnumpy()[0, 0])
    write_audio(os.path.join(folder, "codec-before.ogg"), before[None], RATE)
    write_audio(os.path.join(folder, "codec-after.ogg"), after[None], RATE)
    write_audio(os.path.join(folder, "players.ogg"), np.concatenate(alone)[None], RATE)
    figure = Figure(figsize=(16, 5), layout="constrained")
    names = ("before", "after", *(f"codebook {book + 1}: {name}" for book, name in enumerate(PLAYERS)))
    for axes, wave, name in zip(figure.subplots(2, 3).ravel(), (before, after, *alone), names, strict=True):
        image = np.log(spectrogram(wave) + 1e-2).T[:256]
        axes.imshow(image, origin="lower", aspect="auto", extent=(0, 5, 0, RATE / 4000), cmap="magma")
        axes.set_title(name, fontsize=10)
    figure.savefig(os.path.join(folder, "codec.png"), dpi=60)


def show_curves(work, folder):
    """The losses of both trainings over their steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    with open(os.path.join(work, "codec", "curves.json"), encoding="utf-8") as file:
        codec = np.array(json.load(file))
    with open(os.path.join(work, "decoder", "curves.json"), encoding="utf-8") as file:
        decoder = np.array(json.load(file))
    trained = codec[codec[:, 1] > 0]
    left.plot(trained[:, 0], trained[:, 1], label="log-mel distance, nats")
    for place, name in enumerate(PLAYERS):
        middle.plot(codec[:, 0], codec[:, 5 + place], label=name)
        right.plot(decoder[:, 0], decoder[:, 1 + place], label=name)
    right.set_yscale("log")
    for axes, title in zip((left, middle, right), ("codec", "states heard right", "nats a code"), strict=True):
        axes.set(title=title, xlabel="step")
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    figure.savefig(os.path.join(folder, "curves.png"), dpi=70)


def show(title, rows):
    """Print a table of lists and numbers."""
    print(f"\n{title}")
    for name, value in rows.items():
        print(f"  {name:52} " + (" ".join(f"{v:.3f}" for v in value) if isinstance(value, list) else f"{value:.3f}"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--songs", type=int, default=48)
    parser.add_argument("--prompts", type=int, default=48)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--judged", type=int, default=500, help="songs that the classifier learns from")
    parser.add_argument("--parts", default="codec,foretelling,prompts,long", help="what to measure")
    parser.add_argument("--output", help="folder for measured.json, examples and pictures")
    parser.add_argument("--work", help="folder of make.py, for the curves of the training")
    arguments = parser.parse_args()
    model = MusicgenForConditionalGeneration.from_pretrained(arguments.model)
    processor = MusicgenProcessor.from_pretrained(arguments.model)
    parts, found = arguments.parts.split(","), {}
    songs, codes, waves = held_out(SONGS, arguments.songs)
    if "codec" in parts or "foretelling" in parts:
        found["codec"], through = measure_codec(model, songs, codes, waves)
        show(f"codec, {len(songs)} held-out songs", found["codec"])
    if "foretelling" in parts:
        found["foretelling"] = measure_foretelling(model, processor, songs, codes, through)
        show("can the codes be foretold", found["foretelling"])
    if "prompts" in parts:
        judge = train_judge(model, arguments.judged)
        found["prompts"], found["held"] = measure_prompts(model, processor, judge, arguments.prompts, arguments.seeds)
        for name, rows in found["prompts"].items():
            show(name, rows)
        show("held codes", found["held"])
    if "long" in parts:
        found["long"] = measure_long(model, processor)
        show("a minute", found["long"])
    if arguments.output:
        show_examples(model, processor, arguments.output)
        show_codec(model, draw_song(SONGS + 3), arguments.output)
        if arguments.work:
            show_curves(arguments.work, arguments.output)
        with open(os.path.join(arguments.output, "measured.json"), "w", encoding="utf-8") as file:
            json.dump(found, file, indent=1, default=float)


if __name__ == "__main__":
    main()
