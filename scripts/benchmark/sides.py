"""What is measured: the same operations on mindmusicgen and on transformers with torch.

A side is made in a process of its own, from a folder. Its packages are imported when it is made: the commands that
start these processes, and the other sides' virtual environments, need not have them.
"""

import contextlib
import os
import time
from pathlib import Path

PROMPT = "happy 80s pop track with bassy drums"
STEPS = 25  # decode steps in a block, which is one sample; ours runs them in one call, as generate does
SHORT, TEN_SECONDS, LONG = 254, 504, 1504  # columns of a clip of 5, 10, 30 s, the start column included
CODEC_FRAMES = 500
SAMPLING = {"do_sample": True, "guidance_scale": 3.0, "top_k": 50}
CPUS = len(os.sched_getaffinity(0))


class Clock:
    """Seconds and highest resident memory (1e9 bytes) since the process was started, split at marks."""

    def __init__(self):
        self.start = self.last = float(os.environ["BENCHMARK_STARTED"])  # CLOCK_MONOTONIC: one clock for all processes
        self.parts = {}

    def mark(self, name):
        now, status = time.monotonic(), Path("/proc/self/status").read_text()
        peak = int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9  # ru_maxrss would count the parent's memory
        self.parts |= {f"{name}_seconds": now - self.last, f"{name}_peak": peak}
        self.last = now
        return now - self.start


def timed(function, times, per=1.0, warm=False, before=None):
    """Seconds (divided by `per`) of each of `times` calls, after one that does not count unless `warm`.

    `before` is called before each, outside the time.
    """
    found = []
    for _ in range(times if warm else times + 1):
        if before is not None:
            before()
        begin = time.perf_counter()
        function()
        found.append((time.perf_counter() - begin) / per)
    return found[-times:]


class Stopwatch:
    """When the steps of a clip were done. Called with how many are; says whether to go on."""

    def __init__(self, stop_at=None):
        self.stop_at, self.seen = stop_at, []

    def __call__(self, done, _=None):
        self.seen.append((done, time.perf_counter()))
        return self.stop_at is None or done < self.stop_at

    def milliseconds(self):
        """Of a step: the mean from the first time to the last."""
        (first, begin), (last, end) = self.seen[0], self.seen[-1]
        return 1000 * (end - begin) / (last - first)


class Ours:
    """The measured operations, on mindmusicgen."""

    def __init__(self, folder, clock, quantization=None):
        import mindspore
        import numpy

        from mindmusicgen import MusicgenForConditionalGeneration, MusicgenProcessor

        clock.mark("import")
        self.ms, self.np = mindspore, numpy
        self.model = MusicgenForConditionalGeneration.from_pretrained(folder, quantization=quantization)
        self.processor = MusicgenProcessor.from_pretrained(folder)
        clock.mark("load")
        self.config = self.model.config

    def clip(self, columns, watch=None):
        inputs = self.processor(PROMPT)
        return self.model.generate(**inputs, max_new_tokens=columns - 1, callback=watch, **SAMPLING).asnumpy()

    def stream(self, columns):
        """The first second of audio, while the rest is still to be made."""
        chunks = self.model.stream(**self.processor(PROMPT), max_new_tokens=columns - 1, **SAMPLING)
        return next(chunks).asnumpy()

    def codec(self):
        codes = self.np.random.default_rng(0).integers(0, self.config.decoder.vocab_size, (1, 4, CODEC_FRAMES))
        return lambda: self.model.decode(codes).asnumpy()

    def graphs(self, prompts, columns, mark=lambda name: None):
        """The graphs `generate` would use for guided prompts, conditioned on them."""
        inputs = self.processor([PROMPT] * prompts)
        request, *_ = self.model._request(*inputs.values(), {"max_new_tokens": columns - 1, **SAMPLING})
        request.states.asnumpy()
        mark("text")
        graphs, _ = self.model._generator.conditioned(request, columns, 0)
        graphs.state.cross_mask.asnumpy()
        mark("condition")
        return graphs

    def chunk(self, graphs, position, steps):
        """Run `steps` sampled decode steps in one call, as the decode loop does."""
        from mindmusicgen.generation.decode_loop import CHUNK
        from mindmusicgen.musicgen.delay_pattern import FREE

        np, tensor = self.np, self.ms.Tensor
        shape = (CHUNK, graphs.prompts, self.config.decoder.num_codebooks)
        knobs = [np.array([1], np.float32), np.array([SAMPLING["top_k"]], np.int32), np.array([2], np.float32)]
        scales = np.full(CHUNK, SAMPLING["guidance_scale"], np.float32)
        column, place = np.full(shape[1:], self.model.pad_code, np.int32), np.array([position], np.int32)
        forced, uniforms = np.full(shape, FREE, np.int32), np.random.default_rng(0).random(shape, np.float32)
        knobs = self.ms.mutable(tuple(tensor(knob) for knob in knobs))  # a plain tuple would be compiled in
        numbers = (tensor(forced), tensor(uniforms), tensor(scales), knobs)
        made = graphs.chunk(tensor(column), tensor(place), tensor(steps, self.ms.int32), *numbers)
        return [part.asnumpy() for part in made]

    def block(self, position, prompts, columns):
        """A function that runs STEPS steps from `position` on, and what to call before it (or None)."""
        graphs = self.graphs(prompts, columns)
        rng = self.np.random.default_rng(0)
        for buffer in map(self.ms.Parameter.asnumpy, graphs.state.cache):
            if buffer.dtype == self.np.uint8:
                buffer[...] = rng.integers(1, 256, buffer.shape, self.np.uint8)
            elif buffer.ndim == 3:  # the scales of a cache of 8 bits
                buffer[...] = 1 / 64
            else:
                buffer[...] = rng.standard_normal(buffer.shape, self.np.float32)
        return lambda: self.chunk(graphs, position, STEPS), None

    def first_token(self, mark):
        self.chunk(self.graphs(1, SHORT, mark), 0, 1)
        return mark("chunk")


class Torch:
    """The measured operations, on transformers and torch."""

    def __init__(self, folder, clock):
        import torch
        from transformers import AutoTokenizer, MusicgenForConditionalGeneration
        from transformers.utils import logging

        torch.set_num_threads(CPUS)
        logging.set_verbosity_error()
        clock.mark("import")
        self.torch = torch
        self.model = MusicgenForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        clock.mark("load")
        self.config = self.model.config
        torch.set_grad_enabled(False)

    def inputs(self, prompts=1):
        return self.tokenizer([PROMPT] * prompts, return_tensors="pt", return_token_type_ids=False)

    def clip(self, columns, watch=None):
        def look(ids, _):
            if not watch(ids.shape[1]):
                raise StopIteration  # transformers cannot make audio of a clip that is not whole
            return False

        arguments = {"max_new_tokens": columns - 1, "stopping_criteria": [look] if watch else [], **SAMPLING}
        with contextlib.suppress(StopIteration):
            return self.model.generate(**self.inputs(), **arguments).numpy()

    def codec(self):
        codes = self.torch.randint(0, self.config.decoder.vocab_size, (1, 1, 4, CODEC_FRAMES))
        return lambda: self.model.audio_encoder.decode(codes, [None]).audio_values

    def block(self, position, prompts, columns):
        """Cached forwards of the whole model after `position` columns, and the choice generate() makes."""
        from transformers import ClassifierFreeGuidanceLogitsProcessor, EncoderDecoderCache, TopKLogitsWarper
        from transformers.cache_utils import DynamicCache

        torch, decoder, inputs = self.torch, self.config.decoder, self.inputs(prompts)
        guide = ClassifierFreeGuidanceLogitsProcessor(SAMPLING["guidance_scale"])
        keep = TopKLogitsWarper(SAMPLING["top_k"])
        states, mask = self.model.text_encoder(**inputs).last_hidden_state, inputs["attention_mask"]
        shared = {
            "encoder_outputs": (torch.cat((states, torch.zeros_like(states))),),
            "attention_mask": torch.cat((mask, torch.zeros_like(mask))),
            "past_key_values": EncoderDecoderCache(DynamicCache(), DynamicCache()),
            "use_cache": True,
        }
        ids = torch.randint(0, decoder.vocab_size, (2 * prompts * decoder.num_codebooks, position))
        self.model(decoder_input_ids=ids, **shared)

        def run():
            column = ids[:, -1:]
            for _ in range(STEPS):
                logits = self.model(decoder_input_ids=column, **shared).logits[:, -1]
                scores = keep(None, guide(ids[: len(ids) // 2], logits))
                column = torch.multinomial(torch.softmax(scores, -1), 1).repeat(2, 1)

        return run, lambda: shared["past_key_values"].crop(position)

    def first_token(self, mark):
        def stop(*_, **__):
            raise StopIteration

        with contextlib.suppress(StopIteration):  # the criteria are asked after every token
            self.model.generate(**self.inputs(), max_new_tokens=SHORT - 1, stopping_criteria=[stop], **SAMPLING)
        return mark("generate")


class TorchInt8(Torch):
    """torch with the decoder's linear layers in int8, activations quantised as they come."""

    def __init__(self, folder, clock):
        super().__init__(folder, clock)
        quantize, linear = self.torch.ao.quantization.quantize_dynamic, {self.torch.nn.Linear}
        self.model.decoder = quantize(self.model.decoder, linear, self.torch.qint8)
        clock.mark("quantise")
