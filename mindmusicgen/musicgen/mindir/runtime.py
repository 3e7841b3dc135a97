"""Music from the files of `export`: MindSpore, the tokenizer and the loop in Python, but none of the networks' code.

model = MindIRMusicgen.from_pretrained(folder)
audio = model.generate(**model.processor(text="calm piano"), duration=5, seed=1)
"""

import os
from dataclasses import dataclass, replace

import numpy as np
from mindspore import Tensor, nn

from ...arguments import checked_codes
from ...checkpoint.config_file import config_from
from ...checkpoint.json_file import read_json
from ...errors import InputError
from ...generation.decode_loop import CHUNK
from ...generation.graph_store import GraphStore
from ...generation.incremental_decoder import IncrementalDecoder
from ...mindir.loading import Exported, filled
from ...runtime.callers import alone, serialised
from ...sound.samples import as_batch
from .. import inputs
from ..delay_pattern import columns_for
from ..generator import CodeGenerator
from ..processing import MusicgenProcessor
from .manifest import Manifest


@dataclass
class Made:
    """What `generate(..., return_dict_in_generate=True)` returns: as `MusicgenOutput`."""

    audio_values: Tensor
    audio_codes: Tensor
    seeds: tuple


class LoadedGraphs:
    """The decoder's graphs in the place of `DecodeGraphs`; keeps what they hand out between calls.

    Args:
        load (callable): from a graph's name to the graph.
        manifest (Manifest): of its sizes.
    """

    chunk_size, offset = CHUNK, 0

    def __init__(self, load, manifest):
        self.load, self.sizes = load, manifest["sizes"]
        self.prompt_buckets = (self.sizes["prompt_columns"],)
        cache, rows = manifest["cache"], 2 * self.sizes["batch"]
        shape = (rows, cache["heads"], self.sizes["cache_length"], cache["head_size"])
        dtype = np.float16 if manifest["dtype"] == "float16" else np.float32
        self.empty = tuple(Tensor(np.zeros(shape, dtype)) for _ in range(2 * cache["layers"]))
        self.state, self.cache = (), self.empty

    def condition(self, states, mask):
        """Follow other prompts. states: [R, S, text dim] float32, mask: [R, S] int32."""
        self.state, self.cache = self.load("condition")(Tensor(states), Tensor(mask)), self.empty

    def prefill(self, ids, length, forced, uniforms, scales, filters):
        column, total, *self.cache = self.load("prefill")(ids, length, forced, uniforms, scales, *filters, *self.state)
        return column, total

    def chunk(self, ids, position, steps, forced, uniforms, scales, filters):
        columns, total, *self.cache = self.load("chunk")(
            ids, position, steps, forced, uniforms, scales, *filters, *self.state, *self.cache
        )
        return columns, total


class LoadedGenerator(CodeGenerator):
    """`CodeGenerator` with graphs that were loaded and not compiled from a decoder."""

    def __init__(self, config, load, manifest):
        self.config, self.manifest = config, manifest
        self.store = GraphStore(lambda _: LoadedGraphs(load, manifest), lambda _: 0, lambda: None)

    def conditioned(self, request, length, frame):
        key = ("loaded",)
        loaded = self.store.get(key)
        sizes = self.manifest["sizes"]
        states, mask = request.states.asnumpy(), request.mask.asnumpy()
        missing = ((0, 2 * sizes["batch"] - len(states)), (0, sizes["text_length"] - states.shape[1]))
        loaded.condition(np.pad(states, (*missing, (0, 0))).astype(np.float32), np.pad(mask, missing).astype(np.int32))
        return loaded, key


class CodecFacts:
    """What `IncrementalDecoder` asks of a codec."""

    def __init__(self, config, facts):
        self.config, self.reach = config, facts["reach"]
        first, recurrent = nn.Cell(), nn.Cell()
        first.padding = (facts["left"], facts["right"])
        recurrent.lstm = nn.Cell()
        recurrent.lstm.hidden_size = facts["hidden"]
        self.decoder = nn.Cell()
        self.decoder.layers = [first, recurrent]


class MindIRMusicgen(Exported):
    """A model that runs from exported files, with the methods of `MusicgenForConditionalGeneration` that they allow.

    Args:
        folder (str): written by `mindmusicgen export`.

    Raises:
        InputError: if the manifest or the files beside it are missing, changed or of another version. The graphs are
            checked, and loaded, when they are first needed.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    model_type = "musicgen"

    def __init__(self, folder):
        self._open(Manifest(folder))
        self.config, self.generation_config = _configs(folder)
        self.manifest.check_fits(self.config.decoder)
        self.processor = MusicgenProcessor.from_pretrained(folder)
        self.pad_code, self.sizes = self.manifest["pad_code"], self.manifest["sizes"]
        self._generator = LoadedGenerator(self.config.decoder, self._load, self.manifest)

    @property
    def sampling_rate(self):
        """Samples per second of the audio."""
        return self.config.audio_encoder.sampling_rate

    @property
    def frame_rate(self):
        """Frames of codes per second of audio."""
        return self.config.audio_encoder.frame_rate

    def get_unconditional_inputs(self, num_samples=1):
        """Arguments of `generate` for music without a prompt, to be passed with `**`."""
        return inputs.unconditional_inputs(self.config.text_encoder.hidden_size, num_samples)

    @serialised
    def encode_text(self, input_ids, attention_mask):
        """Text states [B, S, text dim] of tokens [B, S]."""
        width = input_ids.shape[1]
        if width > self.sizes["text_length"]:
            raise InputError(
                f"a prompt has more than {self.sizes['text_length']} tokens, the most these files take; shorten it, or "
                f"export with --text-length {width}"
            )
        padding = ((0, 0), (0, self.sizes["text_length"] - width))
        ids, mask = (np.pad(value.asnumpy(), padding) for value in (input_ids, attention_mask))
        graph, rows, made = self._load("text_encoder"), self.sizes["batch"], []
        for start in range(0, len(ids), rows):
            parts = [array[start : start + rows] for array in (ids, mask)]
            states = graph(*(Tensor(filled(part, rows)) for part in parts)).asnumpy()
            made.append(states[: len(parts[0]), :width])
        return Tensor(np.concatenate(made))

    @serialised
    def encode(self, audio):
        """Codes [B, K, frames] of audio [B, channels, samples], of the one length that was exported.

        Raises:
            InputError: for another length or number of channels.
        """
        values = as_batch("audio", audio)
        channels, samples = self.config.decoder.audio_channels, self.sizes["prompt_samples"]
        if values.shape[1:] != (channels, samples):
            raise InputError(
                f"the audio has {values.shape[1]} channels and {values.shape[2] / self.sampling_rate:g} s; these files "
                f"take {channels} and exactly {samples / self.sampling_rate:g} s; cut it, or export with another "
                "--prompt-duration"
            )
        clips = self.sizes["batch"]
        made = []
        for start in range(0, len(values), clips):  # the rows of a batch: all left sides, then all right ones
            part = values[start : start + clips]
            sides = np.concatenate([filled(part, clips)[:, side : side + 1] for side in range(channels)])
            codes = np.split(self._load("codec_encoder")(Tensor(sides)).asnumpy(), channels)
            made.append(np.stack(codes, axis=2).reshape(clips, -1, codes[0].shape[2])[: len(part)])
        return Tensor(np.concatenate(made))

    @serialised
    def decode(self, codes):
        """Audio [B, channels, samples] of codes [B, K, frames]."""
        codes = checked_codes(self.config.decoder, "codes", codes)
        facts, channels = self.manifest["codec"], self.config.decoder.audio_channels
        self._check_decodable(codes.shape[2])
        clips = self.sizes["batch"]
        made = []
        for start in range(0, len(codes), clips):
            part = codes[start : start + clips]
            sides = np.concatenate([filled(part, clips)[:, side::channels] for side in range(channels)])
            decoder = IncrementalDecoder(
                CodecFacts(self.config.audio_encoder, facts),
                None,
                self._load("codec_recurrent"),
                self._load("codec_convolutions"),
                facts["piece"],
            )
            audio = np.concatenate(decoder.push(sides, last=True), axis=2)
            made.append(np.concatenate(np.split(audio, channels), axis=1)[: len(part)])
        return Tensor(np.concatenate(made))

    def _check_decodable(self, frames):
        facts = self.manifest["codec"]
        least = facts["piece"] + 2 * facts["reach"]
        if frames < least:
            raise InputError(
                f"the music has {frames / self.frame_rate:g} s; these files make at least {least / self.frame_rate:g} s"
            )

    def generate(self, input_ids=None, attention_mask=None, *, return_dict_in_generate=None, **arguments):
        """Generate music for prompts; arguments and results are those of `MusicgenForConditionalGeneration.generate`.

        Any number of prompts is made in groups of the size that was exported; a callback hears of each group.

        Raises:
            InputError: naming the argument, what is wrong and what would be right; also for what is longer than the
                files have room for.
            KeyboardInterrupt: if the user interrupts.
        """

        def take(*names):
            return {name: arguments.pop(name, None) for name in names}

        text = {"input_ids": input_ids, "attention_mask": attention_mask}
        text |= take("encoder_outputs", "negative_input_ids", "negative_attention_mask")
        audio = take("input_values", "padding_mask", "audio_codes", "decoder_input_ids")
        seed, callback, show, config = take("seed", "callback", "progress", "generation_config").values()
        arguments["return_dict_in_generate"] = return_dict_in_generate
        with alone() as interrupts:
            request = inputs.prepare(self, text, audio, config or self.generation_config, arguments, seed)
            self._check_room(request)
            made = []
            for part, count in self._parts(request):
                codes = []
                for fresh in self._generator.codes(part, self.pad_code, self.frame_rate, show, callback):
                    interrupts.check()
                    codes.append(fresh)
                made.append(np.concatenate(codes, axis=2)[:count])
            codes = np.concatenate(made)
            values = self.decode(codes)
        return Made(values, Tensor(codes), request.settings.seeds) if request.settings.return_dict else values

    def _check_room(self, request):
        """Refuse what does not fit into the exported shapes."""
        plan, rate, decoder = request.settings.plan, self.frame_rate, self.config.decoder
        extra = columns_for(0, decoder.num_codebooks, decoder.audio_channels)
        room = self.sizes["cache_length"] - extra
        frames = plan.frames or plan.first - 1 - extra
        if plan.first - 1 > self.sizes["cache_length"] or frames > max(plan.first - 1 - extra, 0):
            raise InputError(
                f"the music has {frames / rate:g} s, its audio prompt included, and these files have room for "
                f"{room / rate:g} s; export with --duration {frames / rate:g} (at most 30)"
            )
        prompted = request.prompt.shape[2]
        if prompted + 1 > self.sizes["prompt_columns"]:
            raise InputError(
                f"the audio prompt has {prompted / rate:g} s and these files have room for "
                f"{(self.sizes['prompt_columns'] - 1) / rate:g} s; cut it, or export with another --prompt-duration"
            )
        self._check_decodable(frames)

    def _parts(self, request):
        """A request in groups of the exported batch, the last filled up: (request, how many of its rows count)."""
        states, mask, seeds = request.states.asnumpy(), request.mask.asnumpy(), request.settings.seeds
        batch, pieces = self.sizes["batch"], len(seeds)
        for start in range(0, pieces, batch):
            rows = np.minimum(np.arange(start, start + batch), pieces - 1)
            behind = rows + pieces if len(states) > pieces else rows[:0]  # negative prompts
            chosen = np.concatenate([rows, behind])
            part = replace(
                request,
                states=Tensor(states[chosen]),
                mask=Tensor(mask[chosen]),
                prompt=request.prompt[rows],
                settings=replace(request.settings, seeds=tuple(seeds[row] for row in rows)),
            )
            yield part, min(batch, pieces - start)


def _configs(folder):
    """The configs of the model and of its `generate`."""
    names = {"MusicgenConfig": "config.json", "GenerationConfig": "generation_config.json"}
    paths = {cls: os.path.join(folder, name) for cls, name in names.items()}
    return [config_from(cls, read_json(path), path) for cls, path in paths.items()]
