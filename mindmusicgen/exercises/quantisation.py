"""Exercises 5: residual vector quantisation, there and back."""

from types import SimpleNamespace

import numpy as np

from .exercise import Case, Exercise, Mistake, Text


def _quantiser(codebooks):
    from mindspore import Tensor

    from ..models.encodec import ResidualVectorQuantizer

    books, codes, dim = codebooks.shape
    config = SimpleNamespace(num_quantizers=books, codebook_size=codes, codebook_dim=dim)
    made = ResidualVectorQuantizer(config)
    made.embed.set_data(Tensor(codebooks.astype(np.float32)))
    return made


def reference_encode(x, codebooks):
    """[T, D] vectors, [K, N, D] codebooks -> [K, T] codes."""
    from mindspore import Tensor

    return _quantiser(codebooks).encode(Tensor(x[None].astype(np.float32)), len(codebooks)).asnumpy()[0]


def reference_decode(codes, codebooks):
    """[K, T] codes, [K, N, D] codebooks -> [T, D] vectors."""
    from mindspore import Tensor

    return _quantiser(codebooks).decode(Tensor(codes[None].astype(np.int32))).asnumpy()[0]


def squares(x, table):
    """Squared distance of every vector to every entry, [T, N]."""
    return ((x[:, None] - table[None]) ** 2).sum(axis=-1)


def coded(choose=lambda x, table: squares(x, table).argmin(axis=1), left=lambda x, entry: x - entry, order=1):
    """A wrong encoder: another choice, another residual, or the codebooks in another order."""

    def answer(x, codebooks):
        codes, residual = [], x.astype(np.float64)
        for table in codebooks[::order]:
            codes.append(choose(residual, table))
            residual = left(residual, table[codes[-1]])
        return np.stack(codes[::order])

    return answer


def _looked_up(codes, codebooks):
    """[K, T, D]"""
    return np.stack([table[row] for table, row in zip(codebooks, codes, strict=True)])


def _problems():
    rng = np.random.default_rng(6)
    for books, size, dim, frames in ((3, 4, 2, 5), (1, 6, 3, 4), (4, 16, 8, 10), (4, 64, 16, 30)):
        scales = 0.6 ** np.arange(books)[:, None, None]
        tables = (rng.normal(size=(books, size, dim)) * scales).astype(np.float32)
        label = Text(
            f"{frames} frames, {books} codebooks of {size} entries", f"{frames} 帧、{books} 个码本、每个 {size} 项"
        )
        yield label, rng.normal(size=(frames, dim)).astype(np.float32), tables


def _encode_cases():
    return [Case(label, (x, tables)) for label, x, tables in _problems()]


def _decode_cases():
    rng = np.random.default_rng(7)
    made = []
    for label, x, tables in _problems():
        made.append(Case(label, (rng.integers(0, tables.shape[1], (len(tables), len(x))), tables)))
    return made


ENCODE_MISTAKES = (
    Mistake(
        coded(left=lambda x, entry: x),
        Text(
            "every codebook codes x itself. From the second on it should code what is left over: subtract the entry "
            "that was chosen before you go on.",
            "每个码本编码的都是 x 本身。从第二个码本起，应当编码剩下的部分：每选定一项，就先把它减掉再继续。",
        ),
    ),
    Mistake(
        coded(left=lambda x, entry: x + entry),
        Text(
            "the chosen entry is added to the residual; it has to be subtracted.",
            "选中的项被加到了残差上，应当减掉。",
        ),
    ),
    Mistake(
        coded(left=lambda x, entry: entry - x),
        Text("the residual has the wrong sign: it is x minus the entry.", "残差的符号反了：应是 x 减去选中的项。"),
    ),
    Mistake(
        coded(left=lambda x, entry: entry),
        Text(
            "the next codebook codes the chosen entry; it should code the residual, x minus the entry.",
            "下一个码本编码的是选中的项；应当编码残差，即 x 减去选中的项。",
        ),
    ),
    Mistake(
        coded(lambda x, table: squares(x, table).argmax(axis=1)),
        Text("the farthest entry is chosen: take argmin, not argmax.", "选到了最远的一项：用 argmin，而不是 argmax。"),
    ),
    Mistake(
        coded(lambda x, table: (x @ table.T).argmax(axis=1)),
        Text(
            "the entry with the largest dot product is chosen; a long entry wins then although it is far away. "
            "Compare distances.",
            "选的是点积最大的一项；这样向量长的项即使很远也会胜出。应当比较距离。",
        ),
    ),
    Mistake(
        coded(lambda x, table: (x @ table.T).argmin(axis=1)),
        Text(
            "the entry with the smallest dot product is chosen, which points away from the vector. A dot product is no "
            "distance: subtract, square, add up, and take the smallest.",
            "选的是点积最小的一项，它指向相反的方向。点积不是距离：应当相减、平方、求和，再取最小。",
        ),
    ),
    Mistake(
        coded(lambda x, table: np.abs(x @ table.T).argmax(axis=1)),
        Text(
            "the entry with the largest dot product, whatever its sign, is chosen; it may even point away from the "
            "vector. Compare distances.",
            "选的是点积绝对值最大的一项；它甚至可能指向相反的方向。应当比较距离。",
        ),
    ),
    Mistake(
        coded(lambda x, table: (x @ (table / np.linalg.norm(table, axis=1, keepdims=True)).T).argmax(axis=1)),
        Text(
            "the entry with the most similar direction is chosen (cosine similarity); its length counts too. Compare "
            "distances.",
            "选的是方向最接近的一项（余弦相似度）；长度也要算进去。应当比较距离。",
        ),
    ),
    Mistake(
        coded(lambda x, table: ((table**2).sum(axis=1) - (x @ table.T)).argmin(axis=1)),
        Text(
            "the 2 is missing: the squared distance is |x|^2 - 2 x·e + |e|^2.",
            "少了系数 2：距离的平方是 |x|² - 2 x·e + |e|²。",
        ),
    ),
    Mistake(
        coded(lambda x, table: np.abs(x[:, None] - table[None]).sum(axis=-1).argmin(axis=1)),
        Text(
            "the distance is a sum of absolute differences; EnCodec uses squared differences.",
            "距离用的是差的绝对值之和；EnCodec 用的是差的平方和。",
        ),
    ),
    Mistake(
        coded(order=-1),
        Text(
            "the codebooks are used from the last to the first; the first is the coarsest and comes first.",
            "码本是从最后一个用到第一个的；第一个最粗略，要最先用。",
        ),
    ),
    Mistake(
        lambda x, codebooks: coded()(x, codebooks)[::-1],
        Text(
            "the codes are right, their order is not: row 0 is codebook 0.", "编码是对的，但顺序反了：第 0 行是码本 0。"
        ),
    ),
    Mistake(
        lambda x, codebooks: coded()(x, codebooks).T,
        Text(
            "rows and columns are exchanged: a row for each codebook, a column for each frame.",
            "行和列颠倒了：一行是一个码本，一列是一帧。",
        ),
    ),
)

DECODE_MISTAKES = (
    Mistake(
        lambda codes, codebooks: np.zeros((codes.shape[1], codebooks.shape[2])),
        Text(
            "nothing has been added yet: all numbers are 0. Is the gap still open?",
            "还什么都没有加：结果全是 0。是不是空还没有填？",
        ),
    ),
    Mistake(
        lambda codes, codebooks: _looked_up(codes, codebooks)[0],
        Text(
            "only the first codebook is heard: add the entries of all.",
            "只用了第一个码本：要把所有码本的项加起来。",
        ),
    ),
    Mistake(
        lambda codes, codebooks: _looked_up(codes, codebooks)[-1],
        Text(
            "only the last codebook is left: add to the sum, do not replace it.",
            "只剩下最后一个码本：要累加（+=），不要覆盖。",
        ),
    ),
    Mistake(
        lambda codes, codebooks: _looked_up(codes, codebooks).mean(axis=0),
        Text("the entries are averaged; they have to be added.", "各项取了平均；应当相加。"),
    ),
    Mistake(
        lambda codes, codebooks: _looked_up(codes, codebooks),
        Text(
            "the entries of the codebooks are still apart: add them up along the first axis.",
            "各码本的项还是分开的：请沿第一个轴求和。",
        ),
    ),
    Mistake(
        lambda codes, codebooks: _looked_up(codes[::-1], codebooks).sum(axis=0),
        Text(
            "the codes are used in the wrong order: row k of the codes belongs to codebook k.",
            "编码的顺序用反了：codes 的第 k 行属于码本 k。",
        ),
    ),
    Mistake(
        lambda codes, codebooks: codebooks[0][codes].sum(axis=0),
        Text(
            "all codes are looked up in the first codebook; row k belongs to codebook k.",
            "所有的编码都在第一个码本里查了；第 k 行属于码本 k。",
        ),
    ),
    Mistake(
        lambda codes, codebooks: _looked_up(codes, codebooks).sum(axis=0).T,
        Text("rows and columns are exchanged: a row for each frame.", "行和列颠倒了：一行是一帧。"),
    ),
)

EXERCISES = (
    Exercise(
        "rvq_encode",
        "x, codebooks",
        ("codebook", "frame"),
        _encode_cases,
        reference_encode,
        ENCODE_MISTAKES,
        whole=True,
    ),
    Exercise("rvq_decode", "codes, codebooks", ("frame", "feature"), _decode_cases, reference_decode, DECODE_MISTAKES),
)
