"""Speed and memory of Bark beside transformers on torch, on this machine's CPU: float32, int8, torch's float32.

    python scripts/benchmark/bark.py [--model FOLDER] [--rounds 3] [--quick] [--clip] [--json FILE]

Needs `pip install -e ".[parity]"`. Every measurement runs in a process of its own, the sides in turn. How to read the
table: README.md in this folder.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import time
from pathlib import Path

from benchmark import child, in_folder, machine, measure, summarise
from sides import CPUS, Clock, timed

THIS = str(Path(__file__).resolve())
TEXT = "in the light of the moon a little egg lay on a leaf"
SECONDS, SEMANTIC_STEPS, COARSE_STEPS, FRAMES = 10, 499, 1500, 750  # of the clip that the parts are summed up to
WINDOW, KEPT_WINDOWS = 60, 11  # coarse steps between two looks; so many need no new prefill without a preset
START, HISTORY, LAST = 257, 630, 887  # positions before the coarse stage's first step, of its history, at most
BOOKS = 8
SAMPLING = {"do_sample": True, "temperature": 0.7, "top_k": 50}
SPEECH = 40  # semantic tokens, 0.8 s, of the measurements that begin with a process

ROWS = (  # (measurement, text, unit)
    ("semantic_step", "semantic step, from 257 on", "ms"),
    ("coarse_step", "coarse step, from 887 on", "ms"),
    ("prefill_257", "prefill of 257 positions", "ms"),
    ("prefill_887", "prefill of 887 positions", "ms"),
    ("fine", "fine pass over 1024 frames", "ms"),
    ("codec", "EnCodec decode of 10 s", "ms"),
    ("sum", "10 s clip, summed from these", "s"),
    ("clip", "10 s clip, generate()", "s"),
    ("second_start", "0.8 s clip, from a second start", "s"),
    ("again", "0.8 s clip, generate() again", "s"),
    ("peak", "peak memory of the 0.8 s clip", "GB"),
)
TARGETS = (  # (measurement, at most so many times torch's in float32, in int8)
    ("semantic_step", 0.65, 0.3),
    ("coarse_step", 0.65, 0.3),
    ("prefill_887", 1.0, 1.0),
    ("fine", 1.0, 1.0),
    ("sum", 0.6, 0.35),
)
MOST_MEMORY = 1.5  # GB, in int8


class Ours:
    """The measured operations, on mindmusicgen."""

    quantization = None

    def __init__(self, folder, clock):
        import mindspore
        import numpy

        from mindmusicgen.bark.model import BarkModel

        clock.mark("import")
        self.ms, self.np = mindspore, numpy
        options = {"quantization": self.quantization} if self.quantization else {}
        self.model = BarkModel.from_pretrained(folder, **options)
        clock.mark("load")

    def ids(self):
        """In place of a text's tokens, of which a random model knows as much."""
        return self.np.arange(1000, 1000 + len(TEXT.split()), dtype=self.np.int32)[None]

    def speak(self, tokens):
        arguments = {"semantic_max_new_tokens": tokens, "return_dict_in_generate": True, "seed": 0, **SAMPLING}
        made = self.model.generate(self.ms.Tensor(self.ids()), fine_temperature=0.5, **arguments)
        return len(made.semantic_tokens[0])

    def _numbers(self, rows):
        np, tensor = self.np, self.ms.Tensor
        knobs = (np.array([0.7], np.float32), np.array([50], np.int32), np.array([2], np.float32))
        uniforms = tensor(np.random.default_rng(0).random(rows, np.float32))
        return uniforms, tensor(np.array([2], np.float32)), self.ms.mutable(tuple(map(tensor, knobs)))

    @contextlib.contextmanager
    def _stage(self, name):
        """The compiled pieces of a stage, the first id that it chooses, and one that it may read."""
        from mindmusicgen.bark.settings import resolve

        chosen = resolve(self.model.config, self.model.generation_config, {}, 1, 0)
        end = chosen.semantic.eos_token_id
        sizes = (1, end + 1, end) if name == "semantic" else (1, chosen.codebook_size)
        with self.model._stages._graphs(name, *sizes) as graphs:
            yield graphs, 0 if name == "semantic" else chosen.semantic.semantic_vocab_size

    def prefill(self, name, length, times):
        np, tensor = self.np, self.ms.Tensor
        columns = 2 * length - 1 if name == "semantic" else length  # text, history and a mark
        ids = tensor(np.random.default_rng(0).integers(0, 10000, (1, columns)).astype(np.int32))
        with self._stage(name) as (graphs, first):
            place, first = tensor(np.array([length], np.int32)), tensor(first, self.ms.int32)
            return timed(lambda: graphs.prefill(ids, place, first, *self._numbers(1))[0].asnumpy(), times, 1e-3)

    def steps(self, name, position, times):
        from mindmusicgen.bark.decode_loop import CHUNK

        np, tensor, found = self.np, self.ms.Tensor, []
        with self._stage(name) as (graphs, first):
            firsts, steps = tensor(np.full(CHUNK, first, np.int32)), tensor(CHUNK, self.ms.int32)
            ids, place = tensor(np.array([first], np.int32)), tensor(np.array([position], np.int32))
            numbers = self._numbers((CHUNK, 1))
            for _ in range(times + 1):
                begin = time.perf_counter()
                made = int(graphs.chunk(ids, place, steps, firsts, *numbers)[1].asnumpy())
                found.append(1000 * (time.perf_counter() - begin) / made)
        return found[1:]

    def fine(self, times):
        np, tensor = self.np, self.ms.Tensor
        codes = tensor(np.random.default_rng(0).integers(0, 1024, (1, 1024, BOOKS)).astype(np.int32))
        uniforms = tensor(np.random.default_rng(1).random(1024, np.float32))
        with self.model._stages._graphs("fine", 1024) as graphs:

            def run():
                book = tensor(7, self.ms.int32)
                return graphs.predict(codes, book, tensor(np.array([0.5], np.float32)), uniforms)[0].asnumpy()

            return timed(run, times, 1e-3)

    def codec(self, times):
        codes = self.np.random.default_rng(0).integers(0, 1024, (1, BOOKS, FRAMES)).astype(self.np.int32)
        return timed(lambda: self.model.codec_decode(codes).asnumpy(), times, 1e-3)

    @staticmethod
    def clip_of(parts):
        """Seconds of a clip, without a preset: every prefill of the coarse stage has room for any history."""
        prefills = 1 + COARSE_STEPS // WINDOW - KEPT_WINDOWS
        steps = (SEMANTIC_STEPS - 1) * parts["semantic_step"] + (COARSE_STEPS - prefills) * parts["coarse_step"]
        others = parts["prefill_257"] + prefills * parts["prefill_887"] + (BOOKS - 2) * parts["fine"] + parts["codec"]
        return (steps + others) / 1000


class OursInt8(Ours):
    """The same, with weights of 8 bits."""

    quantization = "int8"


class Torch:
    """The measured operations, on transformers and torch."""

    def __init__(self, folder, clock):
        import torch
        from transformers import BarkModel
        from transformers.utils import logging

        torch.set_num_threads(CPUS)
        torch.set_grad_enabled(False)
        logging.set_verbosity_error()
        clock.mark("import")
        self.torch = torch
        self.model = BarkModel.from_pretrained(folder, dtype=torch.float32).eval()
        clock.mark("load")

    def _stage(self, name):
        return (self.model.semantic, 10001) if name == "semantic" else (self.model.coarse_acoustics, 12096)

    def prefill(self, name, length, times):
        ids = self.torch.randint(0, 10000, (1, length))
        return timed(lambda: self._stage(name)[0](ids, use_cache=True), times, 1e-3)

    def steps(self, name, position, times):
        from transformers import TopKLogitsWarper
        from transformers.cache_utils import DynamicCache

        (stage, size), torch, count = self._stage(name), self.torch, 30
        keep, cache, ids = TopKLogitsWarper(50), DynamicCache(), torch.randint(0, 10000, (1, position))
        stage(ids, past_key_values=cache, use_cache=True)

        def run():
            column = ids[:, -1:]
            for _ in range(count):
                logits = stage(column, past_key_values=cache, use_cache=True).logits[:, -1, :size]
                column = torch.multinomial(torch.softmax(keep(None, logits / 0.7), -1), 1)

        return timed(run, times, count / 1000, before=lambda: cache.crop(position))

    def fine(self, times):
        torch = self.torch
        codes = torch.randint(0, 1024, (1, 1024, BOOKS))

        def run():
            logits = self.model.fine_acoustics(7, codes).logits[0, :, :1024]
            return torch.multinomial(torch.softmax(logits / 0.5, -1), 1)

        return timed(run, times, 1e-3)

    def codec(self, times):
        codes = self.torch.randint(0, 1024, (1, BOOKS, FRAMES))
        return timed(lambda: self.model.codec_decode(codes), times, 1e-3)

    def speak(self, tokens):
        from transformers.models.bark.generation_configuration_bark import (
            BarkCoarseGenerationConfig,
            BarkFineGenerationConfig,
            BarkSemanticGenerationConfig,
        )

        torch = self.torch
        ids = torch.full((1, 256), 0)
        ids[0, : len(TEXT.split())] = torch.arange(1000, 1000 + len(TEXT.split()))
        semantic = BarkSemanticGenerationConfig(**SAMPLING, max_new_tokens=tokens)
        coarse, fine = BarkCoarseGenerationConfig(**SAMPLING), BarkFineGenerationConfig(temperature=0.5)
        torch.manual_seed(0)
        made = self.model.semantic.generate(
            ids, semantic_generation_config=semantic, attention_mask=(ids > 0).int(), min_new_tokens=tokens
        )
        settings = {"semantic_generation_config": semantic, "coarse_generation_config": coarse, "codebook_size": 1024}
        codes = self.model.coarse_acoustics.generate(made, **settings)
        codes = self.model.fine_acoustics.generate(codes, fine_generation_config=fine, **settings)
        self.model.codec_decode(codes)
        return made.shape[1]

    @staticmethod
    def clip_of(parts):
        """Seconds of a clip, without a preset: a prefill for every window, as long as the history is."""
        step = (parts["prefill_887"] - parts["prefill_257"]) / HISTORY
        lengths = [START + min(WINDOW * window, HISTORY) for window in range(COARSE_STEPS // WINDOW)]
        prefills = sum(parts["prefill_257"] + step * (length - START) for length in lengths)
        steps = (SEMANTIC_STEPS - 1) * parts["semantic_step"] + (COARSE_STEPS - len(lengths)) * parts["coarse_step"]
        others = parts["prefill_257"] + prefills + (BOOKS - 2) * parts["fine"] + parts["codec"]
        return (steps + others) / 1000


SIDES = {"float32": Ours, "int8": OursInt8, "torch": Torch}


def work(side, task, folder, times):
    """The child process: one task, its samples as one line of JSON."""
    clock = Clock()
    measured = SIDES[side](folder, clock)
    if task == "parts":
        found = {
            "prefill_257": measured.prefill("semantic", START, times),
            "semantic_step": measured.steps("semantic", START, times),
            "prefill_887": measured.prefill("coarse", LAST, times),
            "coarse_step": measured.steps("coarse", LAST, times),
            "fine": measured.fine(times),
            "codec": measured.codec(times),
        }
        found["sum"] = [measured.clip_of({name: statistics.median(values) for name, values in found.items()})]
    elif task == "clip":
        begin = time.perf_counter()
        made = measured.speak(SEMANTIC_STEPS)
        found = {"clip": [(time.perf_counter() - begin) * SEMANTIC_STEPS / made]}
    else:
        measured.speak(SPEECH)
        found = {task: [clock.mark("speech")], "peak": [clock.parts["speech_peak"]]}
        found["again"] = timed(lambda: measured.speak(SPEECH), 2, warm=True)
    print("RESULT", json.dumps({"samples": found, "parts": clock.parts}), flush=True)


def table(summary, sides):
    """The measurements and the targets, as lines of text."""
    yield f"{'':36}{'unit':>5}" + "".join(f"{side:>10}" for side in sides) + "   ratios to torch"
    for name, text, unit in ROWS:
        values = [summary[side][name] for side in sides]
        if not any(values):
            continue
        line = f"{text:36}{unit:>5}" + "".join(f"{value[0]:>10.4g}" if value else f"{'-':>10}" for value in values)
        peer = summary.get("torch", {}).get(name)
        ratios = [value[0] / peer[0] if value and peer else None for value in values]
        shown = (f"{side} {ratio:.2f}" for side, ratio in zip(sides, ratios, strict=True) if ratio and side != "torch")
        yield f"{line}   {', '.join(shown)}"
    yield ""
    for side, column in (("float32", 1), ("int8", 2)):
        for target in TARGETS:
            mine, peer = (summary.get(one, {}).get(target[0]) for one in (side, "torch"))
            if mine and peer:
                found = mine[0] / peer[0]
                verdict = "met" if found <= target[column] else "MISSED"
                yield f"{side:8} {target[0]:16} at most {target[column]:<5} found {found:.2f}  {verdict}"
    if peak := summary.get("int8", {}).get("peak"):
        verdict = "met" if peak[0] <= MOST_MEMORY else "MISSED"
        yield f"{'int8':8} {'peak':16} at most {MOST_MEMORY:<5} found {peak[0]:.2f}  {verdict}"


def report(arguments, folder):
    """Measure, print the table, write the JSON."""
    facts = machine(("mindspore", "torch", "transformers", "numpy"))
    model = os.path.abspath(arguments.model or os.path.join(folder, "model"))
    if not os.path.isdir(model):
        print("building a full-size bark-small with random weights ...", file=sys.stderr, flush=True)
        child([str(Path(THIS).parents[1] / "random_checkpoint.py"), "--size", "bark-small", "--output", model], folder)
    caches = os.path.join(folder, "graphs")

    def run(side, task):
        command = [THIS, "--work", side, task, "--model", model, "--times", "2" if arguments.quick else "5"]
        if task == "second_start" and side != "torch":
            kept = {"MINDMUSICGEN_CACHE": os.path.join(caches, side)}
            if not os.path.isdir(kept["MINDMUSICGEN_CACHE"]):
                child(command, folder, **kept)
            return child(command, folder, **kept)
        return child(command, folder)

    tasks = [*arguments.tasks, *(["clip"] if arguments.clip else [])]
    results = list(measure(arguments.sides, tasks, arguments.rounds, run))
    summary = {side: {name: summarise(results, side, name) for name, _, _ in ROWS} for side in arguments.sides}
    print(f"{facts['cpu']}, {CPUS} CPUs, load average {facts['load']:.1f} at the start")
    print(*(f"{name} {version}" for name, version in facts["versions"].items()), sep=", ")
    print(f"model: {arguments.model or 'random weights'}; rounds: {arguments.rounds}\n")
    print("\n".join(table(summary, arguments.sides)))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"machine": facts, "results": results}, indent=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="folder with bark-small; built there with random weights if there is none")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--tasks", nargs="+", choices=("parts", "second_start"), default=["parts", "second_start"])
    parser.add_argument("--rounds", type=int, default=2, help="turns of every measurement")
    parser.add_argument("--quick", action="store_true", help="fewer samples")
    parser.add_argument("--clip", action="store_true", help="also run whole clips of 10 s, a minute or two each")
    parser.add_argument("--json", metavar="FILE", help="also write machine and all samples to a file")
    parser.add_argument("--work", nargs=2, metavar=("SIDE", "TASK"), help=argparse.SUPPRESS)
    parser.add_argument("--times", type=int, default=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        return work(*arguments.work, arguments.model, arguments.times)
    return in_folder(lambda folder: report(arguments, folder))


if __name__ == "__main__":
    sys.exit(main())
