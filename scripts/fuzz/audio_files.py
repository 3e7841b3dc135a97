"""Damaged files of sound, codes, captions and prompts, and what their readers say of them.

    python scripts/fuzz/audio_files.py              # the long form: a table
    python scripts/fuzz/audio_files.py wav 500 7    # 500 mutations of a .wav with seed 7, as JSON

A reader may read a damaged file, or refuse it with an InputError. Any other exception, a crash, a sentence that is none
and a file that takes more than 10 s are faults. Every kind runs in a process of its own, so that a crash is a row too.
"""

import functools
import io
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

SOUND = ("wav", "flac", "ogg", "mp3", "aiff")
RELATED = {"wav": "rf64", "aiff": "caf"}
DATA = ("codes", "jsonl", "csv", "captions", "prompts")
EXTREME = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\0\0\0", b"\0\0\0\x01")
SLOW = 10.0  # seconds for one file
ROOT = Path(__file__).resolve().parents[2]


def mutate(whole, rng, others=()):
    """A file with one to four faults: bits, bytes, numbers at their limits, pieces lost, repeated, moved or foreign.

    Args:
        whole (bytes): the file.
        rng (random.Random): decides.
        others (Sequence[bytes]): files of which pieces may come.

    Returns:
        bytes
    """
    data = bytearray(whole)
    for _ in range(rng.randint(1, 4)):
        if not data:
            break
        # Half of all faults hit the head, where sizes and types stand.
        place = rng.randrange(min(len(data), 64) if rng.random() < 0.5 else len(data))
        end = min(len(data), place + rng.choice((1, 2, 4, 8, 64, 1000)))
        match rng.randrange(9):
            case 0:
                data[place] ^= 1 << rng.randrange(8)
            case 1:
                data[place] = rng.randrange(256)
            case 2:
                data[place:end] = rng.randbytes(end - place)
            case 3:
                data[place : place + 4] = rng.choice(EXTREME)
            case 4:
                del data[place:end]
            case 5:
                del data[place:]
            case 6:
                data[place:place] = data[place:end] * rng.choice((1, 2, 50))
            case 7:
                data[place:end] = bytes(end - place)
            case 8:
                source = rng.choice([whole, *others])
                start = rng.randrange(len(source))
                data[place:end] = source[start : start + rng.choice((4, 64, 1000))]
    return bytes(data)


def sounds(kind):
    """Small whole files of one format, mono and stereo, and of the one whose heads are mended like its own."""
    import soundfile

    made = []
    for channels, rate in ((1, 32000), (2, 44100)):
        for one in (kind, RELATED.get(kind)):
            if one is not None:
                file = io.BytesIO()
                wave = 0.3 * np.sin(np.arange(2400 * channels) / 7).reshape(-1, channels)
                soundfile.write(file, wave, rate, format=one)
                made.append(file.getvalue())
    return made


def codes_files():
    """Small whole files of codes."""
    from mindmusicgen.codes_file import save_codes

    made = []
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "a.npz")
        for shape in ((1, 4, 5), (2, 8, 40)):
            save_codes(path, np.arange(np.prod(shape)).reshape(shape) % 64, 32000, 50)
            made.append(Path(path).read_bytes())
        np.savez(path, codes=np.zeros((1, 4, 3), np.int64), sampling_rate=32000, frame_rate=50)
        made.append(Path(path).read_bytes())
    return made


def read_sound(path):
    from mindmusicgen.audio import read_audio, read_comment

    values = read_audio(path, 32000, 1)
    assert values.shape[0] == 1 and values.shape[1] and values.dtype == np.float32 and np.isfinite(values).all()
    assert isinstance(read_comment(path), str)


def read_codes(path):
    from mindmusicgen.codes_file import load_codes

    values = load_codes(path)
    assert values.dtype == np.int32 and values.ndim == 3 and values.size and values.min() >= 0


def read_pairs(path):
    from mindmusicgen.training.pairs import find_pairs

    pairs, skipped = find_pairs(os.path.dirname(path))
    assert all(pair.captions and "\n" not in "".join(pair.captions) for pair in pairs)
    assert all(name and reason for name, reason in skipped)


def read_prompts(path):
    from mindmusicgen.batch.prompts import read_prompts

    assert all(prompt.text.strip() for prompt in read_prompts(path, {}))


ROWS = [
    {"file_name": "a.wav", "text": "calm piano"},
    {"file_name": "caf\u00e9.wav", "caption": "\u660e\u308b\u3044 \U0001f3b5"},
]
TABLE = b'file_name,text\na.wav,"calm, slow piano"\nb.wav,jazz\n'
PROMPTS = [
    {"text": "calm piano"},
    {"text": "80s pop", "id": "pop", "seed": 7, "duration": 20, "negative_text": "vocals", "guidance_scale": [4, 2]},
]


def _lines(rows):
    return b"".join(json.dumps(row, ensure_ascii=row is rows[-1]).encode() + b"\n" for row in rows)


KINDS = {  # name of the file, how whole ones are made, what reads them
    **{kind: (f"a.{kind}", functools.partial(sounds, kind), read_sound) for kind in SOUND},
    "codes": ("a.npz", codes_files, read_codes),
    "jsonl": ("metadata.jsonl", lambda: [_lines(ROWS)], read_pairs),
    "csv": ("metadata.csv", lambda: [TABLE], read_pairs),
    "captions": ("a.txt", lambda: ["calm piano, \u660e\u308b\u3044".encode()], read_pairs),
    "prompts": ("prompts.jsonl", lambda: [_lines(PROMPTS)], read_prompts),
}


def attempt(kind, count, seed=0):
    """Read mutations of one kind in this process.

    Args:
        kind (str): one of `KINDS`.
        count (int): mutations.
        seed (int): of the first; mutation i can be made again alone with seed + i and a count of 1.

    Returns:
        dict: "outcomes", counts of "read", "refused" and faults; "slowest" in seconds; "memory", MB that it grew by.
    """
    from mindmusicgen.errors import InputError

    name, make, read = KINDS[kind]
    outcomes, slowest = Counter(), 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, name)
        wholes = make()
        if read is read_pairs:
            for audio in ("a.wav", "caf\u00e9.wav"):
                Path(folder, audio).write_bytes(b"")
        for whole in wholes:
            Path(path).write_bytes(whole)
            read(path)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(count):
            rng = random.Random(seed + number)
            Path(path).write_bytes(mutate(rng.choice(wholes), rng, wholes))
            started = time.perf_counter()
            try:
                read(path)
                outcome = "read"
            except InputError as error:
                said = str(error)
                outcome = "refused" if "\n" not in said and len(said) <= 300 else f"no sentence: {said[:60]!r}"
            except Exception as error:
                outcome = f"{type(error).__name__} (seed {seed + number}): {str(error)[:60]}"
            taken = time.perf_counter() - started
            slowest = max(slowest, taken)
            outcomes[outcome if taken < SLOW else f"{taken:.0f} s (seed {seed + number})"] += 1
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"outcomes": dict(outcomes), "slowest": round(slowest, 3), "memory": round(grown)}


def run(kinds, count, seed=0):
    """The same in processes of their own, so that a crash or a file without end is an outcome: a dict for each kind."""
    words = [sys.executable, __file__, ",".join(kinds), str(count), str(seed)]
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": paths, "PYTHONWARNINGS": "ignore"}
    found = subprocess.run(words, env=environment, capture_output=True, timeout=3600)
    try:
        return json.loads(found.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        said = found.stderr.decode(errors="replace").strip().splitlines()[-1:]
        if len(kinds) > 1:
            return {kind: run([kind], count, seed)[kind] for kind in kinds}
        return {kinds[0]: {"outcomes": {f"ended with {found.returncode} {said}": count}, "slowest": 0.0, "memory": 0}}


def rows(scale=1.0):
    """Rows of the table in docs/reliability.md.

    Args:
        scale (float): 1.0 is the long form: 1,000 files of sound, 10,000 of codes, 10,000 of captions and prompts.

    Returns:
        list[tuple]: what was tried, how many, what came out, the command that repeats it.
    """
    made = []
    for kind in KINDS:
        total = 1000 / len(SOUND) if kind in SOUND else 10_000 / (1 if kind == "codes" else len(DATA) - 1)
        count = max(1, round(total * scale))
        found = run([kind], count)[kind]
        said = ", ".join(f"{number} {outcome}" for outcome, number in sorted(found["outcomes"].items()))
        said += f"; slowest {found['slowest']:.2f} s, {found['memory']} MB"
        command = f"python scripts/fuzz/audio_files.py {kind} {count} 0"
        made.append((f"damaged {KINDS[kind][0].removeprefix('a')} files", count, said, command))
    return made


if __name__ == "__main__":
    if sys.argv[1:]:
        chosen, count, seed = sys.argv[1].split(","), int(sys.argv[2]), int((*sys.argv[3:], "0")[0])
        print(json.dumps({kind: attempt(kind, count, seed) for kind in chosen}))
    else:
        print("| tried | times | came out | again with |", "|---|---|---|---|", sep="\n")
        for row in rows():
            print("| {} | {} | {} | `{}` |".format(*row))
