"""Exercise 2: classifier-free guidance, two rows of logits into one."""

import numpy as np

from .exercise import Case, Exercise, Mistake, Text


def reference(conditional, null, scale):
    """null + (conditional - null) * scale, [K, V] each."""
    from mindspore import Tensor

    from ..generation.sampling import guide

    rows = np.stack([conditional, null]).astype(np.float32)
    return guide(Tensor(rows), Tensor(np.array([scale], np.float32))).asnumpy()[0]


def _softmax(x):
    weights = np.exp(x - x.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def _cases():
    rng = np.random.default_rng(3)

    def case(books, codes, scale):
        made = rng.normal(size=(2, books, codes)).astype(np.float32) * 3
        return Case(Text(f"guidance scale {scale}", f"引导强度 {scale}"), (made[0], made[1], scale))

    return [case(4, 6, 3.0), case(4, 6, 1.0), case(2, 9, 0.0), case(1, 5, 7.5), case(4, 2048, 2.5)]


MISTAKES = (
    Mistake(
        lambda conditional, null, scale: conditional + (null - conditional) * scale,
        Text(
            "the formula is turned round: it leads away from the prompt. Start at null and go towards conditional: "
            "the difference is conditional - null.",
            "公式写反了：这样会离提示词越来越远。应从 null 出发，朝 conditional 的方向走，差是 conditional - null。",
        ),
    ),
    Mistake(
        lambda conditional, null, scale: null + (null - conditional) * scale,
        Text(
            "the difference has the wrong sign: conditional - null points towards the prompt.",
            "差的符号错了：conditional - null 才指向提示词。",
        ),
    ),
    Mistake(
        lambda conditional, null, scale: conditional + (conditional - null) * scale,
        Text(
            "you start at conditional; that is a scale too large by 1. Scale 1 has to give conditional unchanged, so "
            "start at null.",
            "你是从 conditional 出发的，相当于强度多了 1。强度为 1 时结果应恰好是 conditional，所以要从 null 出发。",
        ),
    ),
    Mistake(
        lambda conditional, null, scale: (conditional - null) * scale,
        Text(
            "null is not added again: the scaled difference is a step, and null is where it starts.",
            "没有把 null 加回来：乘了强度的差只是“步子”，null 才是起点。",
        ),
    ),
    Mistake(
        lambda conditional, null, scale: null + conditional * scale,
        Text(
            "the whole of conditional is scaled and added to null; what is scaled is what the prompt adds, the "
            "difference conditional - null. Try scale 1: it has to give conditional alone.",
            "把整个 conditional 乘了强度再加到 null 上；应当乘强度的是提示词带来的变化，即差 conditional - null。"
            "试试强度 1：结果应恰好是 conditional。",
        ),
    ),
    Mistake(
        lambda conditional, null, scale: conditional + null * scale,
        Text(
            "null is scaled and added to conditional; start at null and add the scaled difference conditional - null.",
            "把 null 乘了强度再加到 conditional 上；应从 null 出发，加上乘了强度的差 conditional - null。",
        ),
    ),
    Mistake(
        lambda conditional, null, scale: (null + conditional) * scale,
        Text(
            "the sum of both is scaled; start at null and add the scaled difference conditional - null.",
            "把两者之和乘了强度；应从 null 出发，加上乘了强度的差 conditional - null。",
        ),
    ),
    Mistake(
        lambda conditional, null, scale: null + conditional - null * scale,
        Text(
            "only null is scaled: the brackets around the difference are missing, null + (conditional - null) * scale.",
            "只有 null 乘了强度：差的外面少了括号，应为 null + (conditional - null) * scale。",
        ),
    ),
    Mistake(
        lambda conditional, null, scale: scale * conditional - null,
        Text(
            "only conditional is scaled; what is scaled is the difference conditional - null.",
            "只有 conditional 乘了强度；应当乘强度的是差 conditional - null。",
        ),
    ),
    Mistake(
        lambda conditional, null, scale: conditional,
        Text("the scale does nothing: conditional comes out unchanged.", "强度没有起作用：输出就是 conditional。"),
    ),
    Mistake(
        lambda conditional, null, scale: null,
        Text("null comes out unchanged: the step towards the prompt is missing.", "输出就是 null：还没有朝提示词走。"),
    ),
    Mistake(
        lambda conditional, null, scale: _softmax(null) + (_softmax(conditional) - _softmax(null)) * scale,
        Text(
            "guidance works on the logits; the softmax comes afterwards.",
            "引导是在 logits 上做的，softmax 在这之后。",
        ),
    ),
    Mistake(
        lambda conditional, null, scale: _softmax(null + (conditional - null) * scale),
        Text(
            "the formula is right, but the softmax is not part of it: return logits.",
            "公式是对的，但 softmax 不属于这一步：请返回 logits。",
        ),
    ),
)

EXERCISES = (Exercise("guidance", "conditional, null, scale", ("codebook", "code"), _cases, reference, MISTAKES),)
