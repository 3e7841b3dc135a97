"""Several callers at once, tried at random: threads, open streams, forks, poisoned inputs, two runs in one folder.

    python scripts/fuzz/threads.py [PART ...] [--scale 1.0]

Each part runs in a process of its own, so that one that ends it (a segmentation fault) or hangs is a row of the table
and not the end of the others. `rows(scale)` gives the rows of docs/reliability.md; 1.0 is the long form.
"""

import argparse
import collections
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ.setdefault("GLOG_v", "4")

import numpy as np

THIS, ROOT = Path(__file__).resolve(), Path(__file__).resolve().parents[2]
sys.path.insert(0, str(THIS.parents[1]))

SILENCE = {"progress": False}
FORK_SECONDS = 60  # a child that has not answered by then hangs
PART_SECONDS = 3 * 3600


class Caller:
    """A tiny model, calls of every kind with their right answers, and bad arguments for each."""

    def __init__(self, kinds=("generate", "stream", "encode", "decode", "forward", "decoder", "open")):
        import random_checkpoint

        from mindmusicgen import MusicgenForCausalLM, MusicgenForConditionalGeneration, T5EncoderModel

        self.folder = tempfile.mkdtemp()
        random_checkpoint.build("tiny", self.folder)
        self.model = MusicgenForConditionalGeneration.from_pretrained(self.folder).run_eagerly()
        self.alone = MusicgenForCausalLM.from_pretrained(self.folder)
        self.opened_anew = T5EncoderModel
        self.ids = np.array([[5, 6, 7, 8]], np.int32)
        rng = np.random.default_rng(0)
        self.clip = rng.integers(0, 2048, (1, 4, 40)).astype(np.int32)
        self.audio = (0.1 * rng.standard_normal((1, 1, 12800))).astype(np.float32)
        self.right = {(kind, seed): self.call(kind, seed) for kind in kinds for seed in (0, 1)}

    def call(self, kind, seed):
        """One call that works; an array."""
        asked = {"max_new_tokens": 40 + 20 * seed, "seed": seed, **SILENCE}
        if kind == "generate":
            return self.model.generate(self.ids, **asked).asnumpy()
        if kind == "stream":
            return np.concatenate(
                [c.asnumpy() for c in self.model.stream(self.ids, chunk_seconds=0.3, **asked)], axis=2
            )
        if kind == "encode":
            return self.model.encode(self.audio * (1 + seed)).asnumpy()
        if kind == "decode":
            return self.model.decode(self.clip[:, :, seed:]).asnumpy()
        if kind == "forward":
            return self.model(self.ids, decoder_input_ids=self.clip[0, :, : 9 + seed]).logits.asnumpy()
        if kind == "decoder":
            return self.alone.generate(self.clip[:, :, : 9 + seed], **asked).asnumpy()
        encoder = self.opened_anew.from_pretrained(self.folder)  # opened, used once and dropped
        return encoder(self.ids + seed).last_hidden_state.asnumpy()

    def check(self, kind, seed):
        """Make a call and say how it went."""
        try:
            found = self.call(kind, seed)
        except Exception as error:
            return f"{type(error).__name__} from {kind}"
        right = self.right[kind, seed]
        return "right" if found.shape == right.shape and np.allclose(found, right, atol=1e-4) else f"wrong {kind}"

    def any(self, rng):
        kinds = sorted(self.right)
        return kinds[rng.integers(len(kinds))]


def mix(scale):
    """Threads that call one model, and its decoder alone, in any mix."""
    caller, outcomes = Caller(), collections.Counter()

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(round(100 * scale) or 1):
            outcomes[caller.check(*caller.any(rng))] += 1

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return "calls from six threads: generate, stream, encode, decode, forward, the decoder alone, opening", outcomes


def streams(scale):
    """Streams that are begun, left, dropped, stopped and failed in, between other calls."""
    caller, outcomes, rng = Caller(("generate", "stream", "decode")), collections.Counter(), np.random.default_rng(1)
    opened = []
    for _ in range(round(600 * scale) or 4):
        todo = rng.integers(6)
        if todo == 0 and len(opened) < 3:
            seed = int(rng.integers(2))
            asked = {"max_new_tokens": 40 + 20 * seed, "seed": seed, **SILENCE}
            opened.append((seed, [], caller.model.stream(caller.ids, chunk_seconds=0.3, **asked)))
        elif todo in (1, 2) and opened:
            seed, chunks, stream = opened[rng.integers(len(opened))]
            chunk = next(stream, None)
            chunks += [] if chunk is None else [chunk.asnumpy()]
            if chunk is None:
                found, right = np.concatenate(chunks, axis=2), caller.right["stream", seed]
                outcomes["right" if np.allclose(found, right, atol=1e-4) else "wrong stream"] += 1
                opened = [one for one in opened if one[2] is not stream]
        elif todo == 3 and opened and rng.integers(3) == 0:
            opened.pop(rng.integers(len(opened)))  # dropped, to be collected
            outcomes["left"] += 1
        elif todo == 4 and opened and rng.integers(3) == 0:
            with contextlib.suppress(OSError):
                opened.pop()[2].throw(OSError("the consumer failed"))
            outcomes["left"] += 1
        else:
            outcomes[caller.check(*caller.any(rng))] += 1
    return "streams begun, left and failed in between other calls", outcomes


def forks(scale):
    """Children forked from a process that has computed; each must answer."""
    caller, outcomes = Caller(), collections.Counter()
    kinds = sorted(caller.right)
    for number in range(round(60 * scale) or 2):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                caller.call(*kinds[number % len(kinds)])
                said = "computed"
            except BaseException as error:
                said = "refused, names spawn" if "spawn" in str(error) else f"{type(error).__name__}"
            os.write(writer, said.encode())
            os._exit(0)
        os.close(writer)
        answered = select.select([reader], [], [], FORK_SECONDS)[0]
        outcomes[os.read(reader, 100).decode() or "ended without a word" if answered else "hangs"] += 1
        os.close(reader)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if number % 10 == 9:
            outcomes[f"parent {caller.check(*kinds[number % len(kinds)])}"] += 1
    return "forked children that call a model of the parent's", outcomes


POISONS = (np.nan, np.inf, -np.inf, 0.5, -1, 2048.5, 1e300, 10**6, 2**40, -(2**31))


def poison(scale):
    """Bad numbers at any place of any argument; after each, a good call."""
    from mindmusicgen import InputError

    caller, outcomes, rng = Caller(), collections.Counter(), np.random.default_rng(2)
    asked = {"max_new_tokens": 20, "seed": 1, **SILENCE}
    model, alone = caller.model, caller.alone
    clip, ids, mask = caller.clip.astype(np.float64), caller.ids.astype(np.float64), np.ones((1, 4))
    labels = np.full((1, 6, 4), 3.0)
    calls = (
        (clip, model.decode),
        (clip, lambda bad: model.generate(caller.ids, audio_codes=bad, **asked)),
        (clip[0], lambda bad: model.generate(caller.ids, decoder_input_ids=bad, **asked)),
        (clip[0], lambda bad: model(caller.ids, decoder_input_ids=bad)),
        (clip, lambda bad: alone.generate(bad, **asked)),
        (clip[0], lambda bad: alone(bad)),
        (labels, lambda bad: alone(labels=bad)),
        (ids, lambda bad: model.generate(bad, **asked)),
        (ids, lambda bad: model.generate(caller.ids, negative_input_ids=bad, **asked)),
        (mask, lambda bad: model.generate(caller.ids, bad, **asked)),
        (caller.audio, lambda bad: model.encode(bad)),
    )
    for number in range(round(1000 * scale) or len(calls)):
        good, call = calls[number % len(calls)]
        bad, value = good.copy(), POISONS[rng.integers(len(POISONS))]
        if good is caller.audio:
            value = (np.nan, np.inf, -np.inf)[rng.integers(3)]
        bad.flat[rng.integers(bad.size)] = value
        try:
            call(bad)
            outcomes[f"taken: {value} by call {number % len(calls)}"] += 1
        except InputError:
            outcomes["refused"] += 1
        except Exception as error:
            outcomes[type(error).__name__] += 1
        if number % 5 == 0:
            outcomes[f"then {caller.check(*caller.any(rng))}"] += 1
    return "calls with a number that is no code, id, mask or sample, and good calls after them", outcomes


def folders(scale):
    """Processes that all want one folder, some of them killed in it."""
    from mindmusicgen import InputError
    from mindmusicgen.runtime.folder_lock import NAME, alone_in

    outcomes, folder = collections.Counter(), tempfile.mkdtemp()
    for number in range(round(300 * scale) or 3):
        reader, writer = os.pipe()
        children = []
        for _ in range(6):
            child = os.fork()
            if child == 0:
                try:
                    with alone_in(folder):
                        os.write(writer, b"i")
                        time.sleep(0.02)
                        if number % 3 == 0:
                            os.kill(os.getpid(), signal.SIGKILL)
                        os.write(writer, b"o")
                except InputError:
                    os.write(writer, b"r")
                os._exit(0)
            children.append(child)
        os.close(writer)
        for child in children:
            os.waitpid(child, 0)
        said = os.read(reader, 100).decode()
        os.close(reader)
        inside = [one for one in said if one in "io"]
        two = number % 3 and any(a == b for a, b in zip(inside, inside[1:], strict=False))
        outcomes["two at once" if two else "one at a time"] += 1
        outcomes["nobody got in"] += "i" not in said
    left = set(os.listdir(folder)) - {NAME}
    outcomes["files left behind"] += len(left)
    return "contests of six processes for one folder, every third with a kill -9 inside", +outcomes


def commands(scale):
    """Two batches, and two trainings, on one folder at the same time: one works, one is refused."""
    import random_checkpoint
    import soundfile

    place = Path(tempfile.mkdtemp())
    random_checkpoint.build("tiny", str(place / "model"))
    (place / "prompts.jsonl").write_text("".join(json.dumps({"text": f"song {n}"}) + "\n" for n in range(6)))
    (place / "data").mkdir()
    samples = np.random.default_rng(0).standard_normal(64000).astype(np.float32) * 0.1
    soundfile.write(place / "data" / "a.wav", samples, 32000)
    (place / "data" / "a.txt").write_text("calm jazz track")
    model = ["--model", str(place / "model"), "--output"]
    asked = {
        "batch": ["batch", str(place / "prompts.jsonl"), "--duration", "1", *model],
        "train": ["train", "--data", str(place / "data"), "--steps", "3", "--batch", "1", "--seconds", "1", *model],
    }
    outcomes = collections.Counter()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for number in range(round(5 * scale) or 1):
        for name, words in asked.items():
            command = [sys.executable, "-m", "mindmusicgen", *words, str(place / f"{name}{number}")]
            both = [subprocess.Popen(command, env=environment, stdout=-3, stderr=-1, text=True) for _ in range(2)]
            said = [(process.communicate(timeout=1800)[1], process.returncode) for process in both]
            codes = sorted(code for _, code in said)
            refused = sum("another run works on" in text for text, _ in said)
            if codes == [0, 2] and refused == 1:
                outcomes["one worked, one was refused"] += 1
            else:  # the second began when the first was done
                outcomes["one after the other" if codes == [0, 0] else f"exit codes {codes}"] += 1
    return "pairs of batches and of trainings started at once on one folder", outcomes


PARTS = {part.__name__: part for part in (mix, streams, forks, poison, folders, commands)}


def rows(scale=1.0, parts=tuple(PARTS)):
    """What was tried, how many, what came out, and the command that repeats it.

    Args:
        scale (float): 1.0 is the long form, hours on two cores; 0.01 some minutes.
        parts (Sequence[str]): names of `PARTS`.

    Returns:
        list[tuple[str, int, str, str]]
    """
    made = []
    for part in parts:
        command = [sys.executable, str(THIS), part, "--scale", str(scale), "--child"]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PART_SECONDS)
            tried, outcomes = json.loads(done.stdout.splitlines()[-1])
        except subprocess.TimeoutExpired:
            tried, outcomes = PARTS[part].__doc__, {"HANGS": 1}
        except (IndexError, ValueError):
            tried, outcomes = PARTS[part].__doc__, {f"the process ended with code {done.returncode}": 1}
        came = ", ".join(f"{count} {what}" for what, count in sorted(outcomes.items(), key=lambda entry: -entry[1]))
        repeat = f"python scripts/fuzz/threads.py {part} --scale {scale:g}"
        made.append((tried, sum(outcomes.values()), came, repeat))
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"{', '.join(PARTS)}; all for none")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(PARTS[arguments.parts[0]](arguments.scale)))
        return
    for part in arguments.parts or PARTS:
        for row in rows(arguments.scale, (part,)):
            print("| " + " | ".join(map(str, row)) + " |", flush=True)


if __name__ == "__main__":
    main()
