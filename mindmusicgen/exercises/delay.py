"""Exercises 1: laying codes out in the delay pattern, and taking the pattern away again."""

import numpy as np

from ..musicgen import delay_pattern as package
from .exercise import Case, Exercise, Mistake, Text


def reference(codes, pad):
    """[K, frames] -> [K, frames + K]: a start column, codebook k behind by k columns, padding around it."""
    books, frames = codes.shape
    return package.build_pattern(codes[None], frames + books, pad)[0][0]


def reference_undelay(columns):
    """[K, L] -> [K, L - K], the inverse."""
    return package.undelay(columns[None])[0]


def laid_out(codes, pad, starts, columns):
    """Codes with row k beginning at column starts[k]; what does not fit is cut off."""
    laid = np.full((len(codes), columns), pad)
    for row, start in enumerate(starts):
        part = codes[row, max(-start, 0) : columns - start]
        laid[row, max(start, 0) : max(start, 0) + len(part)] = part
    return laid


def shifted(first, step, extra=0):
    """A wrong layout: row k begins at column first + step * k, in `extra` columns more than are needed."""

    def answer(codes, pad):
        books, frames = codes.shape
        return laid_out(codes, pad, [first + step * k for k in range(books)], frames + books + extra)

    return answer


def reversed_delays(codes, pad):
    books, frames = codes.shape
    return laid_out(codes, pad, [books - k for k in range(books)], frames + books)


def filled_with(value):
    """The right layout with another number in place of the padding."""

    def answer(codes, pad):
        books, frames = codes.shape
        return laid_out(codes, value, [1 + k for k in range(books)], frames + books)

    return answer


def _delay_cases():
    rng = np.random.default_rng(1)
    drawn = np.arange(4)[:, None] * 10 + np.arange(1, 7)
    return [
        Case(Text("4 codebooks, 6 frames", "4 个码本、6 帧"), (drawn, 99)),
        Case(Text("2 codebooks, 5 frames", "2 个码本、5 帧"), (drawn[:2, :5], 77)),
        Case(Text("3 codebooks, 3 frames", "3 个码本、3 帧"), (drawn[:3, :3], 99)),
        Case(Text("1 codebook, 4 frames", "1 个码本、4 帧"), (drawn[:1, :4], 99)),
        Case(Text("8 codebooks, 20 frames", "8 个码本、20 帧"), (rng.integers(0, 2048, (8, 20)), 2048)),
    ]


DELAY_MISTAKES = (
    Mistake(
        lambda codes, pad: np.full((len(codes), codes.shape[1] + len(codes)), pad),
        Text(
            "everything is padding: the codes have not been written into the array yet.",
            "全都是填充值：编码还没有写进数组里。",
        ),
    ),
    Mistake(
        shifted(0, 1, -1),
        Text(
            "the start column is missing. Column 0 is padding in every row; codebook k starts in column 1 + k.",
            "缺少起始列。第 0 列在每一行都是填充值，码本 k 从第 1 + k 列开始。",
        ),
    ),
    Mistake(
        shifted(0, 1),
        Text(
            "every row is one column too far to the left: column 0 belongs to the start code, so codebook k starts in "
            "column 1 + k, not in column k.",
            "每一行都偏左了一列：第 0 列留给起始编码，码本 k 应从第 1 + k 列开始，而不是第 k 列。",
        ),
    ),
    Mistake(
        shifted(2, 1, 1),
        Text(
            "every row is one column too far to the right: codebook 0 has no delay, it starts in column 1.",
            "每一行都偏右了一列：码本 0 没有延迟，从第 1 列开始。",
        ),
    ),
    Mistake(
        shifted(1, 1, 1),
        Text(
            "there is one column too many at the end: frames + K columns are enough for all codes.",
            "末尾多了一列：frames + K 列就足够放下全部的编码。",
        ),
    ),
    Mistake(
        shifted(1, 0),
        Text(
            "there is no delay: codebook k has to wait k columns longer than codebook 0.",
            "没有延迟：码本 k 要比码本 0 晚 k 列。",
        ),
    ),
    Mistake(
        reversed_delays,
        Text(
            "the delays are upside down: codebook 0 comes first and the last codebook waits longest.",
            "延迟的方向反了：码本 0 最先出现，最后一个码本等得最久。",
        ),
    ),
    Mistake(
        lambda codes, pad: reference(codes, pad)[:, : codes.shape[1] + 1],
        Text(
            "the last codes of the delayed codebooks are cut off: frames + K columns are needed, not frames + 1.",
            "后面几个码本末尾的编码被截掉了：需要 frames + K 列，而不是 frames + 1 列。",
        ),
    ),
    Mistake(
        lambda codes, pad: reference(codes, pad)[:, :-1],
        Text(
            "the last column is missing, and with it the last code of the last codebook: frames + K columns are "
            "needed, the start column included.",
            "少了最后一列，最后一个码本的最后一个编码也就丢了：算上起始列一共需要 frames + K 列。",
        ),
    ),
    Mistake(
        shifted(1, 2),
        Text(
            "the delay grows by 2 with each codebook; it grows by 1.",
            "相邻码本之间的延迟是 2 列；应当是 1 列。",
        ),
    ),
    Mistake(
        filled_with(0),
        Text(
            "the empty places hold 0, which is a real code; they have to hold pad.",
            "空位里填的是 0，而 0 是一个真正的编码；空位要填 pad。",
        ),
    ),
    Mistake(
        filled_with(-1),
        Text(
            "the empty places hold -1. That marks places to predict; here all codes are known, so the rest is pad.",
            "空位里填的是 -1。-1 表示“等待预测”；这里所有的编码都已知，其余位置应填 pad。",
        ),
    ),
    Mistake(
        lambda codes, pad: reference(codes, pad).T,
        Text(
            "rows and columns are exchanged: a row for each codebook, a column for each step.",
            "行和列颠倒了：一行是一个码本，一列是一个生成步。",
        ),
    ),
)


def _undelay_cases():
    rng = np.random.default_rng(2)

    def delayed(books, frames):
        drawn = np.arange(books)[:, None] * 10 + np.arange(1, frames + 1)
        return (reference(drawn, 99),)

    return [
        Case(Text("4 codebooks, 10 columns", "4 个码本、10 列"), delayed(4, 6)),
        Case(Text("2 codebooks, 7 columns", "2 个码本、7 列"), delayed(2, 5)),
        Case(Text("1 codebook, 5 columns", "1 个码本、5 列"), delayed(1, 4)),
        Case(Text("8 codebooks, 28 columns", "8 个码本、28 列"), (reference(rng.integers(0, 2048, (8, 20)), 2048),)),
    ]


def cut(first, step, extra=0):
    """A wrong cut: row k from column first + step * k on, `extra` columns too many."""

    def answer(columns):
        books, length = columns.shape
        starts = [first + step * k for k in range(books)]
        return np.stack([row[s : s + length - books + extra] for row, s in zip(columns, starts, strict=True)])

    return answer


UNDELAY_MISTAKES = (
    Mistake(
        cut(0, 1),
        Text(
            "every row begins one column too early, with the padding of the start: codebook k starts in column 1 + k.",
            "每一行都早取了一列，带上了开头的填充值：码本 k 从第 1 + k 列开始。",
        ),
    ),
    Mistake(
        cut(0, 1, 1),
        Text(
            "the start column is still there: codebook k starts in column 1 + k, and L - K frames come out.",
            "起始列还在：码本 k 从第 1 + k 列开始，结果应有 L - K 帧。",
        ),
    ),
    Mistake(
        cut(1, 0),
        Text(
            "the delay is still there: row k has to be taken from column 1 + k on.",
            "延迟还没有去掉：第 k 行要从第 1 + k 列取起。",
        ),
    ),
    Mistake(
        lambda columns: columns[:, 1:],
        Text(
            "only the start column is gone; the delay and its padding are still there.",
            "只去掉了起始列，延迟和其中的填充值还在。",
        ),
    ),
    Mistake(
        cut(1, 1, -1),
        Text(
            "the last frame is missing: L - K frames come out of L columns.",
            "少了最后一帧：L 列应得到 L - K 帧。",
        ),
    ),
    Mistake(
        lambda columns: np.stack(
            [row[len(columns) - k :][: columns.shape[1] - len(columns)] for k, row in enumerate(columns)]
        ),
        Text(
            "the delays are upside down: row 0 begins first, the last row last.",
            "延迟的方向反了：第 0 行最先开始，最后一行最晚开始。",
        ),
    ),
    Mistake(
        lambda columns: reference_undelay(columns).T,
        Text(
            "rows and columns are exchanged: a row for each codebook, a column for each frame.",
            "行和列颠倒了：一行是一个码本，一列是一帧。",
        ),
    ),
)

EXERCISES = (
    Exercise(
        "delay_pattern",
        "codes, pad",
        ("codebook", "column"),
        _delay_cases,
        reference,
        DELAY_MISTAKES,
        whole=True,
    ),
    Exercise(
        "undelay", "columns", ("codebook", "frame"), _undelay_cases, reference_undelay, UNDELAY_MISTAKES, whole=True
    ),
)
