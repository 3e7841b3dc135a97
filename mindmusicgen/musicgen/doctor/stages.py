"""The stages of the demo model, each alone: from golden inputs to what is compared with golden outputs."""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from ...generation.decode_loop import TEXT_BUCKETS, bucket
from .. import settings
from ..delay_pattern import FREE, build_pattern
from ..inputs import Request
from . import golden


class AllColumns(nn.Cell):
    """Known columns [B, K, T] -> logits [2B, K, T, V], all columns at once as in `DecodeGraphs.prefill`."""

    def __init__(self, graphs):
        super().__init__()
        self.graphs = graphs

    def construct(self, ids):
        graphs = self.graphs
        x, _ = graphs.decoder.construct(graphs.rows(ids), graphs.state.cross, graphs.state.cross_mask)
        return graphs.decoder.logits(x)


class Stages:
    """The demo model, stage by stage. A stage gets golden inputs, so that what is wrong before it does not matter.

    Args:
        model (MusicgenForConditionalGeneration): the demo.
        processor (MusicgenProcessor): its processor.
    """

    def __init__(self, model, processor):
        self.model, self.processor, self._step = model, processor, {}

    def tokens(self, prompts):
        """Tokens and mask of two prompts, [2, S] int32."""
        made = self.processor(text=[str(prompt) for prompt in prompts], return_tensors="np")
        length = made["input_ids"].shape[1]
        padding = ((0, 0), (0, bucket(length, TEXT_BUCKETS) - length))
        return tuple(np.pad(made[name], padding).astype(np.int32) for name in ("input_ids", "attention_mask"))

    def states(self, ids, mask):
        """Text states [2, S, D] float32, zero where the mask is."""
        states = self.model.encode_text(Tensor(ids), Tensor(mask)).astype(ms.float32).asnumpy()
        return states * mask[:, :, None]

    def request(self, states, mask, prompt=None, arguments=None):
        """A checked call for text states [B, S, D] that goes on from codes [B, K, frames]; `arguments` of `generate`
        in place of those of the golden run."""
        model, rows = self.model, len(states)
        if prompt is None:
            prompt = np.zeros((rows, model.config.decoder.num_codebooks, 0), np.int32)
        frames = prompt.shape[2]
        wanted = arguments or golden.SETTINGS | {"max_new_tokens": golden.NEW_COLUMNS - frames}
        chosen = settings.resolve(model.config, model.generation_config, wanted, rows, frames, seed=1)
        return Request(Tensor(states), Tensor(mask), prompt, chosen)

    def codes(self, states, mask, prompt=None):
        """Greedy codes [B, K, frames] by the compiled loop; they begin with those of the prompt."""
        made = self.model._generate_codes(self.request(states, mask, prompt), None, False)
        return np.concatenate(list(made), axis=2)

    def columns(self, codes):
        """Codes [B, K, frames] -> what the columns hold, [B, K, NEW_COLUMNS + 1]."""
        pattern, _ = build_pattern(codes, golden.NEW_COLUMNS + 1, self.model.pad_code)
        return pattern

    def graphs(self, states, mask):
        """The compiled pieces, conditioned on the text."""
        return self.model._generator.conditioned(self.request(states, mask), golden.NEW_COLUMNS + 1, 0)[0]

    def step_logits(self, states, mask, codes, columns=None):
        """Teacher-forced logits, column by column through the cache: [columns, 2B, K, V] at `columns`, or at all."""
        graphs = self.graphs(states, mask)
        if id(graphs) not in self._step:
            self._step = {id(graphs): ms.jit(graphs.step_logits, fullgraph=True)}
        run, known, made = self._step[id(graphs)], self.columns(codes), []
        for column in range(golden.NEW_COLUMNS):
            logits = run(Tensor(known[:, :, column]), Tensor(np.array([column], np.int32)))
            if columns is None or column in columns:
                made.append(logits.asnumpy())
        return np.stack(made)

    def prompt_logits(self, states, mask, codes, columns):
        """The same logits, all columns at once."""
        cell = AllColumns(self.graphs(states, mask))
        known = Tensor(self.columns(codes)[:, :, : golden.NEW_COLUMNS])
        logits = ms.jit(cell.construct, fullgraph=True)(known).asnumpy()
        return logits[:, :, list(columns)].transpose(2, 0, 1, 3)

    def deficits(self, states, mask, codes):
        """How far below the best guided logit each of the codes is, as part of the largest: [2, K, NEW_COLUMNS].

        0 for every code that the loop chose greedily, if its steps compute what a step alone does; 0 also where the
        delay pattern leaves no choice.
        """
        guided = _guided(self.step_logits(states, mask, codes))
        following = self.columns(codes)[:, :, 1:].transpose(2, 0, 1)
        chosen = np.minimum(following, guided.shape[-1] - 1)
        below = guided.max(-1) - np.take_along_axis(guided, chosen[..., None], -1)[..., 0]
        below[following >= guided.shape[-1]] = 0  # padding
        return (below / np.abs(guided).max()).transpose(1, 2, 0)

    def margins(self, states, mask, codes):
        """How far the best guided logit is above the second, as part of the largest: [2, K, NEW_COLUMNS]; infinite
        where the delay pattern leaves no choice."""
        guided = _guided(self.step_logits(states, mask, codes))
        best = np.sort(guided, -1)[..., -2:]
        margins = ((best[..., 1] - best[..., 0]) / np.abs(guided).max()).transpose(1, 2, 0)
        return np.where(self.columns(codes)[:, :, 1:] < guided.shape[-1], margins, np.inf).astype(np.float32)

    def sampled(self, states, mask, logits, uniforms):
        """Codes that uniforms [columns, B, K] choose from logits [columns, 2B, K, V], by the loop's own graph code."""
        graphs = self.graphs(states, mask)
        run = ms.jit(graphs.pick, fullgraph=True)
        kinds = (np.float32, np.int32, np.float32)
        values = zip(golden.FILTERS.values(), kinds, strict=True)
        filters = ms.mutable(tuple(Tensor(np.array([value], kind)) for value, kind in values))
        scale = Tensor(np.array([golden.SETTINGS["guidance_scale"]], np.float32))
        free = Tensor(np.full(uniforms.shape[1:], FREE, np.int32))
        pairs = [(Tensor(one), Tensor(drawn)) for one, drawn in zip(logits, uniforms, strict=True)]
        return np.stack([run(one, free, drawn, scale, filters).asnumpy() for one, drawn in pairs])

    def audio(self, codes):
        """Codes [1, K, frames] -> audio [1, 1, N]."""
        return self.model.decode(codes).asnumpy()

    def audio_in_pieces(self, codes):
        """The same as a stream makes it."""
        decoder = self.model.codec.in_pieces(0.2)
        return np.concatenate([piece.asnumpy() for piece in self.model.codec.push(decoder, codes, last=True)], axis=2)

    def audio_codes(self, audio):
        """Audio [1, 1, N] -> codes [1, K, frames]."""
        return self.model.encode(audio).asnumpy()


def _guided(logits):
    """Logits [columns, 2B, K, V] -> [columns, B, K, V], with the guidance of the golden run."""
    scale = np.float32(golden.SETTINGS["guidance_scale"])
    conditional, null = np.split(logits, 2, axis=1)
    return null + (conditional - null) * scale
