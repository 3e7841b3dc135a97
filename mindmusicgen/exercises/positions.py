"""Exercise 4: the sinusoidal positions."""

import numpy as np

from .exercise import Case, Exercise, Mistake, Text


def reference(num_positions, dim):
    """[num_positions, dim]: cosines in the first half, sines in the second."""
    from ..musicgen.decoder import sinusoidal_positions

    return sinusoidal_positions(num_positions, dim)


def angles(num_positions, dim, divisor=lambda half: half - 1, sign=-1, first=0, step=1.0):
    half = dim // 2
    frequencies = np.exp(sign * np.arange(half) * np.log(10000) / divisor(half))
    return (np.arange(num_positions) * step + first)[:, None] * frequencies


def table(**wrong):
    """A table with something wrong about its angles."""

    def answer(num_positions, dim):
        made = angles(num_positions, dim, **wrong)
        return np.concatenate([np.cos(made), np.sin(made)], axis=1)

    return answer


def interleaved(first, second, divisor=lambda half: half - 1):
    """A table in which cosine and sine take turns."""

    def answer(num_positions, dim):
        made = angles(num_positions, dim, divisor)
        return np.stack([first(made), second(made)], axis=2).reshape(num_positions, dim)

    return answer


def sines_first(divisor):
    def answer(num_positions, dim):
        made = angles(num_positions, dim, divisor)
        return np.concatenate([np.sin(made), np.cos(made)], axis=1)

    return answer


def _cases():
    return [
        Case(Text(f"{n} positions, width {d}", f"{n} 个位置、宽度 {d}"), (n, d))
        for n, d in ((10, 8), (4, 6), (1, 4), (50, 32), (200, 64))
    ]


MISTAKES = (
    Mistake(
        sines_first(lambda half: half - 1),
        Text(
            "sine and cosine are exchanged: in MusicGen the cosines are the first half, the sines the second.",
            "sin 和 cos 的顺序反了：MusicGen 里前一半是 cos，后一半是 sin。",
        ),
    ),
    Mistake(
        interleaved(np.cos, np.sin),
        Text(
            "cosine and sine take turns; here all cosines come first, then all sines: join them along axis 1.",
            "cos 和 sin 交错排列了；这里应先放全部 cos，再放全部 sin：沿 axis=1 拼接。",
        ),
    ),
    Mistake(
        interleaved(np.sin, np.cos),
        Text(
            'that is the layout of "Attention is all you need", sine and cosine in turns. MusicGen has all cosines '
            "first, then all sines.",
            "这是《Attention is all you need》的排法：sin、cos 交错。MusicGen 是先放全部 cos，再放全部 sin。",
        ),
    ),
    Mistake(
        interleaved(np.sin, np.cos, lambda half: half),
        Text(
            'that is the table of "Attention is all you need". Two things differ in MusicGen: all cosines come first, '
            "then all sines, not in turns; and the exponent is divided by half - 1, not by half.",
            "这正是《Attention is all you need》里的表。MusicGen 有两处不同：先放全部 cos，再放全部 sin，而不是交错；"
            "指数除以 half - 1，而不是 half。",
        ),
    ),
    Mistake(
        interleaved(np.cos, np.sin, lambda half: half),
        Text(
            "two things: cosine and sine take turns, but all cosines come first, then all sines; and the exponent is "
            "divided by half - 1, not by half.",
            "有两处：cos 和 sin 交错排列了，应先放全部 cos，再放全部 sin；指数应除以 half - 1，而不是 half。",
        ),
    ),
    Mistake(
        table(divisor=lambda half: half),
        Text(
            "the exponent is divided by half; it is half - 1, so that the last frequency is exactly 1/10000.",
            "指数除以了 half，应当除以 half - 1，这样最后一个频率恰好是 1/10000。",
        ),
    ),
    Mistake(
        sines_first(lambda half: half),
        Text(
            "two things: the cosines come first, and the exponent is divided by half - 1, not by half.",
            "有两处：cos 应放在前面；指数应除以 half - 1，而不是 half。",
        ),
    ),
    Mistake(
        table(divisor=lambda half: 2 * half - 1),
        Text(
            "the exponent is divided by dim - 1; there are half = dim // 2 frequencies, so divide by half - 1.",
            "指数除以了 dim - 1；频率一共有 half = dim // 2 个，应除以 half - 1。",
        ),
    ),
    Mistake(
        table(sign=1),
        Text(
            "the frequencies grow up to 10000; they have to fall from 1 to 1/10000: the exponent is negative.",
            "频率一路涨到了 10000；应当从 1 降到 1/10000：指数是负的。",
        ),
    ),
    Mistake(
        table(first=1),
        Text("positions are counted from 1; the first is 0.", "位置是从 1 数起的；第一个位置是 0。"),
    ),
    Mistake(
        table(step=np.pi / 180),
        Text(
            "the angles are taken as degrees; np.cos and np.sin take radians, and nothing has to be converted.",
            "角度被当成了“度”；np.cos 和 np.sin 用弧度，不需要换算。",
        ),
    ),
    Mistake(
        lambda num_positions, dim: np.sin(angles(num_positions, dim)),
        Text(
            "the cosines are missing: the width is dim, half of it cosines.", "缺少 cos：宽度是 dim，其中一半是 cos。"
        ),
    ),
    Mistake(
        lambda num_positions, dim: np.cos(angles(num_positions, dim)),
        Text("the sines are missing: the width is dim, half of it sines.", "缺少 sin：宽度是 dim，其中一半是 sin。"),
    ),
    Mistake(
        angles,
        Text("these are the angles; their cosines and sines are wanted.", "这是角度；要的是它们的 cos 和 sin。"),
    ),
    Mistake(
        lambda num_positions, dim: reference(num_positions, dim).T,
        Text(
            "rows and columns are exchanged: a row for each position.",
            "行和列颠倒了：一行是一个位置。",
        ),
    ),
)

EXERCISES = (
    Exercise("sinusoidal_positions", "num_positions, dim", ("position", "feature"), _cases, reference, MISTAKES),
)
