"""Speech from the files of `export`: MindSpore, the tokenizer and the loops in Python, but none of the networks' code.

model = MindIRBark.from_pretrained(folder)
audio = model.generate(**model.processor("Hello [laughs]"), seed=1)
"""

import os

import mindspore as ms
import numpy as np
from mindspore import Tensor

from ...checkpoint.config_file import config_from
from ...checkpoint.json_file import read_json
from ...errors import InputError
from ...generation.graph_store import GraphStore
from ...mindir.loading import Exported, filled
from ...runtime.callers import Unfinished
from ..codec_windows import WINDOW, in_windows
from ..config import open_config
from ..decode_loop import CHUNK
from ..generator import Speaker
from ..processing import BarkProcessor
from ..stages import Stages
from .manifest import Manifest


class LoadedStage:
    """A causal stage's graphs in the place of `StageGraphs`, for any number of rows: a group after another.

    Args:
        load (callable): from a graph's name to the graph.
        stage (str): semantic or coarse.
        rows (int): of the call.
        batch (int): of the graphs.
        positions (int): of a prefill.
        end (int): which id ends a row; None: rows have no end.
    """

    def __init__(self, load, stage, rows, batch, positions, end=None):
        self.load, self.stage, self.rows, self.batch = load, stage, rows, batch
        self.positions, self.end = positions, end
        self.caches = [()] * -(-rows // batch)

    def _groups(self, values, axis=0):
        """A tensor's rows in groups of the graphs' size, the last one filled up."""
        values = np.moveaxis(values.asnumpy(), axis, 0)
        for start in range(0, self.rows, self.batch):
            group = filled(values[start : start + self.batch], self.batch)
            yield Tensor(np.ascontiguousarray(np.moveaxis(group, 0, axis)))

    def prefill(self, ids, length, first, uniforms, least, filters):
        """See `StageGraphs._prefill`."""
        run, chosen, totals = self.load(f"{self.stage}_prefill"), [], []
        for i, (some, drawn) in enumerate(zip(self._groups(ids), self._groups(uniforms), strict=True)):
            found, total, *self.caches[i] = run(some, length, first, drawn, least, *filters)
            chosen.append(found.asnumpy())
            totals.append(total.asnumpy())
        return Tensor(np.concatenate(chosen)[: self.rows]), Tensor(np.stack(totals))

    def chunk(self, ids, position, steps, firsts, uniforms, least, filters):
        """See `StageGraphs._chunk`; a group that has ended gives ends."""
        run, columns, counts, totals = self.load(f"{self.stage}_chunk"), [], [], []
        for i, (some, drawn) in enumerate(zip(self._groups(ids), self._groups(uniforms, 1), strict=True)):
            found, count, total, *self.caches[i] = run(
                some, position, steps, firsts, drawn, least, *filters, *self.caches[i]
            )
            found, count = found.asnumpy().copy(), int(count.asnumpy())
            if self.end is not None:
                found[count:] = self.end
            columns.append(found)
            counts.append(count)
            totals.append(total.asnumpy())
        columns = np.concatenate(columns, axis=1)[:, : self.rows]
        return Tensor(columns), Tensor(np.array(max(counts), np.int32)), Tensor(np.stack(totals))


class LoadedFine:
    """The fine stage's graph in the place of `FineGraphs`."""

    def __init__(self, load):
        self.load = load

    def predict(self, codes, book, temperature, uniforms):
        """See `FineGraphs._predict`."""
        return self.load("fine")(codes, book, temperature, uniforms)


class LoadedStages(Stages):
    """`Stages` with graphs that were loaded and not compiled from networks.

    Args:
        load (callable): from a graph's name to the graph.
        manifest (Manifest): of their sizes.
    """

    def __init__(self, load, manifest):
        sizes = manifest["sizes"]

        def causal(stage, positions):
            numbers, width = manifest[stage], 2 if manifest["dtype"] == "float16" else 4
            width *= 2 * numbers["layers"] * numbers["heads"] * numbers["positions"] * numbers["head_size"]

            def make(rows, count, end=None):
                return LoadedStage(load, stage, rows, sizes["batch"], positions, end)

            return GraphStore(make, lambda key: width * -(-key[0] // sizes["batch"]) * sizes["batch"], lambda: None)

        self.stores = {
            "semantic": causal("semantic", manifest["semantic"]["positions"]),
            "coarse": causal("coarse", sizes["coarse_prompt"]),
            "fine": GraphStore(lambda size: LoadedFine(load), lambda key: 0, lambda: None),
        }


class MindIRBark(Speaker, Exported):
    """A Bark that runs from exported files, with `BarkModel`'s generate, speak, codec_decode and stop.

    Args:
        folder (str): written by `mindmusicgen export`.

    Attributes:
        processor (BarkProcessor): of the texts and voices, which lie beside the graphs.

    Raises:
        InputError: if the manifest or the files beside it are missing, changed, of another version or of another kind
            of model. The graphs are checked, and loaded, when they are first needed.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    model_type = "bark"

    def __init__(self, folder):
        self._open(Manifest(folder))
        path = os.path.join(folder, "generation_config.json")
        self.config, self.generation_config = (
            open_config(folder)[0],
            config_from("GenerationConfig", read_json(path), path),
        )
        self.manifest.check_fits(self.config)
        self.sizes, self.dtype = self.manifest["sizes"], getattr(ms, self.manifest["dtype"])
        self.processor = BarkProcessor.from_pretrained(folder)
        self._stages, self._unfinished = LoadedStages(self._load, self.manifest), Unfinished()
        if self._fixed(self._settings()) != self._fixed():
            raise self.manifest.broken()

    def _fixed(self, chosen=None):
        """The numbers that are in the graphs: of a call's settings, or the files'."""
        if chosen is None:
            sizes = (self.sizes[name] for name in ("prompt", "ids", "codes", "window", "books", "chunk"))
            return *sizes, self.manifest["codec"]["window"]
        length, end = chosen.semantic.max_input_semantic_length, chosen.semantic.eos_token_id
        fine = (chosen.fine.max_fine_input_length, chosen.fine.n_fine_codebooks)
        return 2 * length + 1, end + 1, chosen.codebook_size, *fine, CHUNK, WINDOW

    def _settings(self, arguments=None, rows=1, seed=0):
        """Checked also against the room that the files have."""
        chosen, most = super()._settings(arguments, rows, seed), self.sizes["tokens"]
        tokens, rate = chosen.semantic.max_new_tokens, chosen.semantic.semantic_rate_hz
        if tokens > most:
            raise InputError(
                f"max_new_tokens is {tokens}, {tokens / rate:.1f} s, and these files have room for {most}; export with "
                f"--duration {tokens / rate:.1f}"
            )
        return chosen

    def _decoded(self, codes):
        """Codes [K, frames] to audio [samples]."""
        (books, frames), room, codec = codes.shape, self.sizes["books"], self.manifest["codec"]
        if not frames:
            return np.zeros(0, np.float32)
        if books > room:
            raise InputError(f"the codes are of {books} codebooks; these files decode {room}")
        there = np.full((room, max(frames, codec["left"] + 1)), -1, np.int32)
        there[:books, :frames] = codes
        facts = (codec[name] for name in ("left", "reach", "layers", "hidden"))
        audio = in_windows(self._load("codec_decoder"), there, *facts)
        return audio[: len(audio) // there.shape[1] * frames].copy()
