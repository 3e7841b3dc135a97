"""The cells that are exported: each a pure function of its inputs, for one number of rows.

A graph that is loaded from a file cannot share its Parameters with another. What the pieces of `decode_loop` keep in a
common cache is therefore handed in and out: keys and values k0, v0, k1, v1, ... of [B, H, L, d] each.
"""

import mindspore as ms
from mindspore import nn, ops

from ..codec import Window


class StagePiece(nn.Cell):
    """A causal stage with the cache that its loop writes to.

    Args:
        graphs (decode_loop.StageGraphs): of plain operations, without C kernels.
    """

    def __init__(self, graphs):
        super().__init__()
        self.graphs, self.buffers = graphs, 2 * graphs.network.config.num_layers

    def cache(self):
        """What the cache holds now."""
        cache = ()
        for i in range(self.buffers):
            cache += (self.graphs.cache[i] * 1,)
        return cache


class Prefill(StagePiece):
    """Known ids: the next ones, the sum of their logits, and the cache; see `StageGraphs._prefill`."""

    def construct(self, ids, length, first, uniforms, least, temperature, top_k, top_p):
        chosen, total = self.graphs._prefill(ids, length, first, uniforms, least, (temperature, top_k, top_p))
        return (chosen, total) + self.cache()


class Chunk(StagePiece):
    """Up to CHUNK steps: the ids, how many steps, the sum of the last logits, the cache; see `StageGraphs._chunk`."""

    def construct(self, ids, position, steps, firsts, uniforms, least, temperature, top_k, top_p, *cache):
        for i in range(self.buffers):
            ops.assign(self.graphs.cache[i], cache[i])
        filters = (temperature, top_k, top_p)
        columns, made, total = self.graphs._chunk(ids, position, steps, firsts, uniforms, least, filters)
        return (columns * 1, made, total) + self.cache()


class Fine(nn.Cell):
    """A codebook of a window of the fine stage; see `FineGraphs._predict`."""

    def __init__(self, graphs):
        super().__init__()
        self.graphs = graphs

    def construct(self, codes, book, temperature, uniforms):
        return self.graphs._predict(codes, book, temperature, uniforms)


class CodecDecoder(Window):
    """A window of the codec's decoder; see `Window.decode`. A code of -1 is none.

    Of speech that was stopped early not all codebooks are known; and where a clip is shorter than the padding of the
    first convolution, nothing behind it is what EnCodec puts there itself.
    """

    def construct(self, codes, h, c, before, skip):
        used = (codes >= 0).astype(ms.float32)
        return self.decode(ops.maximum(codes, 0), h, c, before, skip, used)
