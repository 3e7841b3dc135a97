"""Does the tiny Jukebox sing what the words say? Songs, songs through its VQ-VAE, and what its priors make.

    python scripts/jukebox_solfa/measure.py [--model solfa] [--songs 24] [--levels 3] [--keep FOLDER]

A note is heard as the strongest frequency in its time. "Another's" compares with the next song's words, which is what
chance gives. The instrument is the one whose waveform of that note is nearest.
"""

import argparse
from pathlib import Path

import numpy as np
import world

FREQUENCIES = np.array([world.frequency(pitch) for pitch in range(world.PITCHES)])
QUIET = 0.02  # root mean square of what counts as silence


def heard(sound):
    """Notes of a sound, one for each SLOT samples."""
    found = []
    for part in sound.reshape(-1, world.SLOT):
        if part.std() < QUIET:
            found.append(world.REST)
            continue
        power = np.abs(np.fft.rfft(part * np.hanning(world.SLOT), 4 * world.SLOT))
        strongest = power.argmax() * world.RATE / (4 * world.SLOT)
        found.append(int(np.abs(np.log(FREQUENCIES / max(strongest, 1))).argmin()))
    return np.array(found)


def instrument_of(sound, notes):
    """Which instrument most notes are nearest to."""
    votes = []
    for part, pitch in zip(sound.reshape(-1, world.SLOT), notes, strict=True):
        if pitch != world.REST:
            votes.append(int(np.argmin([((part - world.note(pitch, one)) ** 2).sum() for one in world.GENRES])))
    return world.GENRES[np.bincount(votes, minlength=3).argmax()] if votes else ""


def loss_in_decibel(found, wanted):
    """How far the error of a sound is below it."""
    return 10 * np.log10((wanted**2).sum() / ((found - wanted) ** 2).sum())


def rows_of(sounds, songs):
    """Shares of what is as asked."""
    notes = [heard(sound) for sound in sounds]
    share = lambda pairs: float(np.mean(np.concatenate([a == b for a, b in pairs])))  # noqa: E731
    tunes = [tune for tune, *_ in songs]
    low = [(a[a < world.REST] < 7) == (artist == "bass") for a, (_, _, artist) in zip(notes, songs, strict=True)]
    tools = [instrument_of(s, n) == tool for s, n, (_, tool, _) in zip(sounds, notes, songs, strict=True)]
    return {
        "notes as the words say": share(zip([a % 7 + 7 * (a == world.REST) for a in notes],
                                            [t % 7 + 7 * (t == world.REST) for t in tunes], strict=True)),
        "notes, and their register": share(zip(notes, tunes, strict=True)),
        "register of the artist": float(np.mean(np.concatenate(low))),
        "instrument of the genre": float(np.mean(tools)),
        "another's words": share(zip(notes, tunes[1:] + tunes[:1], strict=True)),
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="solfa", help="folder or name")
    parser.add_argument("--songs", type=int, default=24)
    parser.add_argument("--notes", type=int, default=world.MOST_NOTES)
    parser.add_argument("--levels", type=int, default=3, help="1: the top level alone")
    parser.add_argument("--keep", type=Path, help="folder for the sounds")
    arguments = parser.parse_args()
    from mindmusicgen import JukeboxModel, write_audio

    model, rng = JukeboxModel.from_pretrained(arguments.model), np.random.default_rng(5)
    songs = []
    for _ in range(arguments.songs):
        artist = world.ARTISTS[rng.integers(2)]
        tune = rng.integers(0, 7, arguments.notes) + 7 * world.ARTISTS.index(artist)
        songs.append((np.where(rng.random(len(tune)) < 0.08, world.REST, tune), world.GENRES[rng.integers(3)], artist))
    true = np.stack([world.sound(tune, tool) for tune, tool, _ in songs])
    ways = {"songs": true}
    for level, codes in enumerate(model.vqvae.encode(true[..., None])):
        ways[f"through level {level}"] = model.vqvae.decode([codes], level).asnumpy()[..., 0]
    labels = model.tokenizer([a for *_, a in songs], [g for _, g, _ in songs], [world.words_of(t) for t, *_ in songs])
    asked = {"sample_length": true.shape[1], "seed": 1, "save_results": False, "progress": False}
    codes = model.ancestral_sample(labels.input_ids, len(songs), sample_levels=list(range(arguments.levels)), **asked)
    for level in range(arguments.levels):
        made = model.vqvae.decode([codes[level]], 2 - level).asnumpy()[..., 0]
        ways[f"prior {level}"] = made
    found = {name: rows_of(sounds, songs) for name, sounds in ways.items()}
    for name, sounds in ways.items():
        found[name]["error below the song, dB"] = loss_in_decibel(sounds, true) if name != "songs" else np.inf
    print("| | " + " | ".join(found) + " |\n|---|" + "---|" * len(found))
    for name in found["songs"]:
        print(f"| {name} | " + " | ".join(f"{found[way][name]:.2f}" for way in found) + " |")
    if arguments.keep:
        arguments.keep.mkdir(parents=True, exist_ok=True)
        for kind, sounds in ways.items():
            for i, sound in enumerate(sounds):
                write_audio(str(arguments.keep / f"{i:02}-{kind.replace(' ', '-')}.wav"), sound, world.RATE)


if __name__ == "__main__":
    main()
