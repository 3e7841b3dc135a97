"""Long use of one process: its memory does not grow with the number of calls, lengths, settings and models.

    python scripts/fuzz/soak.py                       # the long form: a table
    python scripts/fuzz/soak.py codec 200 0           # 200 calls of encode and decode of seed 0, as JSON
    python scripts/fuzz/soak.py generations 200 0     # 200 pieces of mixed lengths and settings, some after a prompt
    python scripts/fuzz/soak.py models 20 0           # 20 models opened, used once and dropped

A process of its own for each. Memory is the resident set after collecting garbage, at ten moments; growth counts from
the end of the warm-up, in which every bucket of shapes is met once.
"""

import ctypes
import gc
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

MODEL = os.environ.get("SOAK_MODEL", "demo")
LENGTHS = (0.02, 0.1, 0.25, 0.5, 0.9, 1.5, 2.5, 4.0, 5.5, 8.0)  # seconds: each size of the codec's windows, both ways
LIMIT = 150  # MB that may be added after the warm-up
COUNTS = {"codec": 200, "generations": 200, "models": 20}
WORDS = {
    "codec": "calls of encode and decode, of lengths from 0.02 to 8 s",
    "generations": "pieces of mixed lengths, prompts and settings",
    "models": "models opened, used once and dropped",
}
PROMPTS = ("a slow waltz", "drum and bass, " * 12)  # of two buckets


def resident():
    """MB of this process in memory, after giving back what is free."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024


def opened():
    """A model."""
    from mindmusicgen import MusicgenForConditionalGeneration

    return MusicgenForConditionalGeneration.from_pretrained(MODEL)


def processor_of():
    """The processor that belongs to it."""
    from mindmusicgen import AutoProcessor

    return AutoProcessor.from_pretrained(MODEL)


def codes_of(model, rng, frames):
    """Random codes, [1, K, frames]."""
    decoder = model.config.decoder
    numbers = np.random.default_rng(rng.getrandbits(32))
    return numbers.integers(0, decoder.vocab_size, (1, decoder.num_codebooks, frames)).astype(np.int32)


def codec(rng, count):
    """Calls one by one: a function to do each, and how many of them are the warm-up."""
    model, warm = opened(), 2 * len(LENGTHS)
    rate, hop = model.frame_rate, model.config.audio_encoder.hop_length

    def call(number):
        seconds = LENGTHS[number // 2] if number < warm else rng.uniform(0.02, 8)
        frames = max(1, round(seconds * rate))
        if number % 2:
            assert model.decode(codes_of(model, rng, frames)).shape[2] == frames * hop
        else:
            samples = frames * hop - rng.randrange(hop)
            audio = np.random.default_rng(number).uniform(-0.5, 0.5, (1, 1, samples)).astype(np.float32)
            assert model.encode(audio).shape[2] == frames
            del audio

    return call, warm


def generations(rng, count):
    """Pieces one by one."""
    model, processor = opened(), processor_of()
    shapes = [(text, new, prompt) for text in PROMPTS for new in (20, 90) for prompt in (0, 30)]

    def call(number):
        text, new, prompt = shapes[number % len(shapes)]
        settings = {
            "max_new_tokens": new if number < len(shapes) else rng.randint(5, new),
            "temperature": rng.uniform(0.3, 1.5),
            "top_k": rng.choice((0, 5, 250)),
            "top_p": rng.choice((0.0, 0.5, 0.9)),
            "guidance_scale": rng.uniform(1.5, 5),
            "do_sample": rng.random() < 0.8,
            "seed": number,
        }
        if prompt:
            settings["audio_codes"] = codes_of(model, rng, rng.randint(1, prompt))
        if not settings["do_sample"]:
            settings = {name: settings[name] for name in settings if name not in ("temperature", "top_k", "top_p")}
        assert np.isfinite(model.generate(**processor(text=[text]), progress=False, **settings).asnumpy()).all()

    return call, 2 * len(shapes)


def models(rng, count):
    """Models one after the other."""

    def call(number):
        model, processor = opened(), processor_of()
        assert model.generate(**processor(text=PROMPTS[:1]), max_new_tokens=20, progress=False, seed=number).shape[2]

    return call, 2


def attempt(kind, count, seed=0):
    """One kind in this process.

    Args:
        kind (str): a key of COUNTS.
        count (int): calls after the warm-up.
        seed (int): of lengths and settings.

    Returns:
        dict: "curve", MB at eleven moments from the end of the warm-up on, "growth", MB, and "seconds".
    """
    started = time.perf_counter()
    call, warm = globals()[kind](random.Random(seed), count)
    for number in range(warm):
        call(number)
    curve, moments = [resident()], {round(count * part / 10) for part in range(1, 11)}
    for number in range(1, count + 1):
        call(warm + number - 1)
        if number in moments:
            curve.append(resident())
    growth = max(curve) - curve[0]
    return {"curve": [round(one) for one in curve], "growth": round(growth), "seconds": time.perf_counter() - started}


def rows(scale=1.0):
    """Rows of the table in docs/reliability.md.

    Args:
        scale (float): 1.0 is the long form: 200 codec calls, 200 generations, 20 models.

    Returns:
        list[tuple]: what was tried, how many, what came out, the command that repeats it.
    """
    made = []
    for kind, most in COUNTS.items():
        count = max(1, round(most * scale))
        command = ["scripts/fuzz/soak.py", kind, str(count), "0"]
        with tempfile.TemporaryDirectory() as cache:  # as on a new machine: every graph is compiled once
            environment = {"MINDMUSICGEN_CACHE": cache} | os.environ
            done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, env=environment)
        if done.returncode:
            came = f"the process ended with {done.returncode}: {done.stderr.strip()[-200:]}"
        else:
            found = json.loads(done.stdout.splitlines()[-1])
            came = f"memory {' '.join(map(str, found['curve']))} MB: at most {found['growth']} MB more"
            came += "" if found["growth"] <= LIMIT else f", which is above {LIMIT}"
        made.append((WORDS[kind], count, came, "python " + " ".join(command)))
    return made


if __name__ == "__main__":
    os.environ.setdefault("GLOG_v", "4")
    if sys.argv[1:]:
        print(json.dumps(attempt(sys.argv[1], *map(int, sys.argv[2:]))))
    else:
        print("| tried | times | came out | again with |", "|---|---|---|---|", sep="\n")
        for row in rows():
            print("| {} | {} | {} | `{}` |".format(*row), flush=True)
