"""Exercises 3: top-k, and drawing a code with a uniform random number."""

import numpy as np

from .exercise import Case, Exercise, Mistake, Text

EXCLUDED = -1e9  # what is at least as low counts as minus infinity


def tidy(logits):
    """Every way to write "never" as minus infinity."""
    return np.where(logits <= EXCLUDED, -np.inf, logits)


def _tensors(*numbers):
    from mindspore import Tensor

    return tuple(Tensor(np.asarray(number)) for number in numbers)


def reference_top_k(logits, k):
    """[rows, V] logits, all but the k largest of each row at minus infinity; ties with the k-th stay."""
    from ..generation.sampling import filter_logits

    rows, one = logits.astype(np.float32), np.ones(1, np.float32)
    return tidy(filter_logits(*_tensors(rows, one, np.array([k], np.int32), 2 * one)).asnumpy())


def reference_sample(logits, temperature, uniforms):
    """[rows, V] logits and [rows] uniforms to [rows] codes."""
    from ..generation.sampling import choose

    # In float64 first: softmax takes finite numbers, and the reference masks with a finite one.
    scaled = np.maximum(logits.astype(np.float64) / temperature, -1e30).astype(np.float32)
    return choose(*_tensors(scaled, uniforms.astype(np.float32))).asnumpy()


def kept(logits, keep):
    return np.where(keep, logits, -np.inf)


def exactly(k_of, stable=True):
    """Wrong top-k: exactly k codes by argsort, whatever is tied."""

    def answer(logits, k):
        order = np.argsort(-logits, axis=-1, kind="stable") if stable else np.argsort(logits, axis=-1)[:, ::-1]
        keep = np.zeros(logits.shape, bool)
        np.put_along_axis(keep, order[:, : k_of(k)], True, axis=-1)
        return kept(logits, keep)

    return answer


def threshold(place):
    """Wrong top-k: compares with the sorted logit at place(k), largest first."""

    def answer(logits, k):
        ordered = np.sort(logits, axis=-1)[:, ::-1]
        at = place(k)
        if at < 0:
            return kept(logits, np.zeros(logits.shape, bool))
        return kept(logits, logits >= ordered[:, min(at, logits.shape[1] - 1), None])

    return answer


def _softmax(x, axis=-1):
    weights = np.exp(x - x.max(axis=axis, keepdims=True))
    return weights / weights.sum(axis=axis, keepdims=True)


def _top_k_cases():
    rng = np.random.default_rng(4)
    plain = np.array([[0.5, 2.0, -1.0, 3.0, 1.0, 0.0], [1.5, -2.0, 4.0, 0.5, 2.5, 3.5]], np.float32)
    tied = np.array([[3, 1, 2, 2, 2, 0], [0, 5, 5, 4, 4, 1]], np.float32)
    ties = Text(
        "what is as large as the k-th largest logit stays, even if that makes more than k.",
        "与第 k 大的 logit 相等的都要保留，哪怕总数超过 k 个。",
    )
    rows = Text("each row has its own k-th largest logit.", "每一行各有自己的第 k 大 logit。")
    return [
        Case(Text("k = 3 of 6 codes", "6 个编码里取 k = 3"), (plain, 3)),
        Case(Text("k = 1", "k = 1"), (plain, 1)),
        Case(Text("k = 6 of 6 codes, all stay", "6 个编码里取 k = 6，全部保留"), (plain, 6)),
        Case(
            Text("rows of very different size", "各行数值相差很大"),
            (plain + np.array([[0], [50]], np.float32), 2),
            rows,
        ),
        Case(Text("ties with the 2nd", "有并列第 2 的"), (tied, 2), ties),
        Case(Text("2048 codes", "2048 个编码"), (rng.normal(size=(4, 2048)).astype(np.float32) * 4, 50)),
    ]


LOW = Text(
    "cut codes get a low number, which is unlikely, not never: a high temperature brings it back. Take -np.inf.",
    "去掉的编码被设成了一个很小的数，那只是不太可能，不是“绝不”：温度一高它又会回来。请用 -np.inf。",
)
VERY_LOW = Text(
    "Note: cut codes get a number like -1e9 in place of -np.inf. After softmax it is 0 as well, so this passes; but it "
    "is a number that a temperature divides and float16 cannot hold. -np.inf says never, whatever the scale.",
    "提示：去掉的编码被设成了 -1e9 这样的数，而不是 -np.inf。经过 softmax 它同样是 0，所以算通过；但它终究是一个数，"
    "会被温度除小，float16 也存不下。-np.inf 才是无论尺度如何都“绝不”。",
)


def very_low(logits):
    """Whether an answer writes "never" as a finite number."""
    return bool((np.isfinite(logits) & (logits <= EXCLUDED)).any())


TOP_K_MISTAKES = (
    Mistake(
        lambda logits, k: logits,
        Text("nothing was cut: all logits are unchanged.", "什么都没有去掉：所有 logits 原样返回。"),
    ),
    Mistake(
        threshold(lambda k: k),
        Text(
            "one code too many stays: the k-th largest is number k - 1 when you count from 0.",
            "多留了一个编码：从 0 数起，第 k 大的下标是 k - 1。",
        ),
    ),
    Mistake(
        exactly(lambda k: k + 1),
        Text("one code too many stays: k + 1 in place of k.", "多留了一个编码：留了 k + 1 个，应为 k 个。"),
    ),
    Mistake(
        threshold(lambda k: k - 2),
        Text(
            "one code too few stays: the k-th largest itself has to stay, so compare with >= and not with >.",
            "少留了一个编码：第 k 大的那个也要保留，所以用 >= 比较，而不是 >。",
        ),
    ),
    Mistake(
        lambda logits, k: kept(logits, logits > np.sort(logits, axis=-1)[:, -k, None]),
        Text(
            "the k-th largest itself has to stay: compare with >= and not with >.",
            "第 k 大的那个也要保留：用 >= 比较，而不是 >。",
        ),
    ),
    Mistake(
        exactly(lambda k: k),
        Text(
            "exactly k codes stay, but a code as large as the k-th has to stay too: compare with the k-th largest "
            "logit, do not count.",
            "恰好留了 k 个，但与第 k 大并列的也要保留：请与第 k 大的 logit 比大小，而不是数个数。",
        ),
    ),
    Mistake(
        exactly(lambda k: k, stable=False),
        Text(
            "exactly k codes stay, but a code as large as the k-th has to stay too: compare with the k-th largest "
            "logit, do not count.",
            "恰好留了 k 个，但与第 k 大并列的也要保留：请与第 k 大的 logit 比大小，而不是数个数。",
        ),
    ),
    Mistake(
        lambda logits, k: kept(logits, logits <= np.sort(logits, axis=-1)[:, k - 1, None]),
        Text("the k smallest logits stay; it should be the k largest.", "留下的是最小的 k 个，应当留最大的 k 个。"),
    ),
    Mistake(
        lambda logits, k: kept(logits, logits >= np.sort(logits.ravel())[-k]),
        Text(
            "one threshold for all rows: each row (codebook) has its own k-th largest logit; sort along axis -1.",
            "所有行共用了一个门槛：每一行（每个码本）各有自己的第 k 大 logit，请沿 axis=-1 排序。",
        ),
    ),
    Mistake(
        lambda logits, k: np.where(logits >= np.sort(logits, axis=-1)[:, -k, None], logits, 0),
        Text(
            "cut codes get 0, but after the softmax a logit of 0 is still a fair chance. Only minus infinity is never.",
            "去掉的编码被设成了 0，可是 logit 为 0 经过 softmax 仍有不小的概率。只有负无穷才是“绝不”。",
        ),
    ),
    *(
        Mistake(lambda logits, k, low=low: np.where(logits >= np.sort(logits)[:, -k, None], logits, low), LOW)
        for low in (-1, -10, -99, -100, -999, -1000, *(-(10.0**power) for power in range(4, 9)))
    ),
    Mistake(
        lambda logits, k: kept(logits, logits >= np.sort(logits, axis=0)[-min(k, len(logits)), None]),
        Text(
            "the logits are sorted down the columns (axis 0); the codes of one codebook lie along a row: sort along "
            "axis -1.",
            "沿着列（axis=0）排序了；同一个码本的编码排在一行里，请沿 axis=-1 排序。",
        ),
    ),
    Mistake(
        lambda logits, k: np.sort(logits, axis=-1)[:, ::-1][:, :k],
        Text(
            "you return only the k largest logits. Keep the shape, so that a place is still a code: "
            "the others become minus infinity.",
            "你只返回了最大的 k 个 logit。形状要保持不变，位置才对应编码：其余的设为负无穷。",
        ),
    ),
    Mistake(
        lambda logits, k: logits >= np.sort(logits, axis=-1)[:, -k, None],
        Text(
            "that is the mask of what stays; use it with np.where to return logits.",
            "这是“保留哪些”的掩码；请再用 np.where 得到 logits。",
        ),
    ),
    Mistake(
        lambda logits, k: _softmax(reference_top_k(logits, k)),
        Text(
            "the choice of codes is right, but return logits: the softmax comes later.",
            "保留的编码是对的，但这里要返回 logits：softmax 在后面。",
        ),
    ),
)


def inverted(probabilities, uniforms):
    """The first code whose cumulative probability exceeds the uniform."""
    found = (np.cumsum(probabilities, axis=-1) <= np.asarray(uniforms)[..., None]).sum(axis=-1)
    return np.minimum(found, probabilities.shape[-1] - 1)


def drawn(scale=lambda x, t: x / t, uniform=lambda u: u, offset=0):
    """A wrong draw: other scaling, other uniforms, or a code beside the right one."""

    def answer(logits, temperature, uniforms):
        codes = inverted(_softmax(scale(logits.astype(np.float64), temperature)), uniform(uniforms))
        return np.clip(codes + offset, 0, logits.shape[1] - 1)

    return answer


def from_sorted(back):
    """A wrong draw: runs through the codes from the most likely on."""

    def answer(logits, temperature, uniforms):
        probabilities = _softmax(logits.astype(np.float64) / temperature)
        order = np.argsort(-probabilities, axis=-1, kind="stable")
        places = inverted(np.take_along_axis(probabilities, order, axis=-1), uniforms)
        return np.take_along_axis(order, places[:, None], axis=-1)[:, 0] if back else places

    return answer


def _sample_cases():
    rng = np.random.default_rng(5)
    # Uniforms in the middle of a code's share, so that rounding decides nothing.
    logits = rng.normal(size=(12, 8)).astype(np.float32) * 1.5

    def uniforms(logits, temperature, codes):
        shares = np.cumsum(_softmax(logits.astype(np.float64) / temperature), axis=-1)
        before = np.concatenate([np.zeros((len(shares), 1)), shares], axis=1)
        rows = np.arange(len(codes))
        return (before[rows, codes] + before[rows, codes + 1]) / 2

    def case(logits, temperature, en, zh, hint=None):
        likely = np.argsort(-logits, axis=-1, kind="stable")[np.arange(len(logits)), np.arange(len(logits)) % 4]
        return Case(Text(en, zh), (logits, temperature, uniforms(logits, temperature, likely)), hint)

    overflow = Text(
        "exp of a large logit is infinite. Subtract the largest logit of the row before exp: the result is the same.",
        "很大的 logit 取 exp 会溢出成无穷。先减去该行最大的 logit 再取 exp，结果不变。",
    )
    never = Text(
        "a logit of minus infinity has probability 0: such a code is never drawn.",
        "logit 为负无穷的编码概率为 0，绝不会被抽到。",
    )
    first = Text(
        "with uniform 0 the first code that has a chance is drawn.",
        "均匀随机数为 0 时，抽到的是第一个概率不为 0 的编码。",
    )
    cut = np.where(logits >= np.sort(logits, axis=-1)[:, -4, None], logits, -np.inf)
    return [
        case(logits, 1.0, "temperature 1", "温度 1"),
        case(logits, 2.0, "temperature 2", "温度 2"),
        case(logits, 0.5, "temperature 0.5", "温度 0.5"),
        case(cut, 1.0, "after top-k, with minus infinity in places", "top-k 之后，部分为负无穷", never),
        Case(Text("all uniforms 0", "随机数全为 0"), (cut, 1.0, np.zeros(len(cut))), first),
        case(logits * 20 + 1000, 10.0, "logits around 1000", "logits 在 1000 左右", overflow),
    ]


SAMPLE_MISTAKES = (
    Mistake(
        lambda logits, temperature, uniforms: logits.argmax(axis=-1),
        Text(
            "the most likely code comes out every time; that is greedy choice. The uniform number has to decide.",
            "每次得到的都是概率最大的编码，这是贪心选择。应当由均匀随机数来决定。",
        ),
    ),
    Mistake(
        drawn(lambda x, t: x),
        Text("the temperature does nothing: divide the logits by it.", "温度没有起作用：logits 要除以温度。"),
    ),
    Mistake(
        drawn(lambda x, t: x * t),
        Text(
            "the logits are multiplied by the temperature. Divide: a high temperature makes the choice more even.",
            "logits 乘上了温度。应当相除：温度越高，选择越平均。",
        ),
    ),
    Mistake(
        lambda logits, temperature, uniforms: inverted(
            _softmax(logits.astype(np.float64) / temperature, axis=0), uniforms
        ),
        Text(
            "the softmax runs down the columns (axis 0), so that the codebooks compete with each other. The codes of "
            "one row have to add up to 1: axis -1.",
            "softmax 沿着列（axis=0）算了，成了码本之间互相竞争。应当是同一行的编码概率之和为 1：axis=-1。",
        ),
    ),
    Mistake(
        lambda logits, temperature, uniforms: inverted(
            _softmax(logits.astype(np.float64) / temperature, None), uniforms
        ),
        Text(
            "the softmax runs over the whole array at once; each row has to add up to 1: give axis -1.",
            "softmax 是对整个数组一起算的；应当每一行的概率之和为 1：请加上 axis=-1。",
        ),
    ),
    Mistake(
        drawn(uniform=lambda u: np.full_like(u, u[0])),
        Text("one uniform for all rows: each row has its own.", "所有行共用了一个随机数：每一行各用自己的。"),
    ),
    Mistake(
        drawn(uniform=lambda u: 1 - u),
        Text(
            "the codes are counted from the wrong end: the first code gets the share from 0 on.",
            "从另一头数起了：第一个编码占从 0 开始的那一段。",
        ),
    ),
    Mistake(
        drawn(offset=1),
        Text(
            "every code is one too high: count the cumulative sums that are not above the uniform.",
            "每个编码都大了 1：数一数有多少个累积和不超过随机数。",
        ),
    ),
    Mistake(
        drawn(offset=-1),
        Text(
            "every code is one too low: wanted is the first whose cumulative sum exceeds the uniform.",
            "每个编码都小了 1：要的是累积和超过随机数的第一个编码。",
        ),
    ),
    Mistake(
        from_sorted(back=False),
        Text(
            "places in the sorted row come out, not codes: either do not sort, or look up which code was there.",
            "返回的是排序后的名次，不是编码：要么不排序，要么查回原来的编码。",
        ),
    ),
    Mistake(
        from_sorted(back=True),
        Text(
            "the shares are laid out from the most likely code on. That is a fair draw too, but here they follow the "
            "order of the codes: do not sort.",
            "各编码的区间是按概率从大到小排的。这样抽也公平，但这里要按编码的顺序排：不要排序。",
        ),
    ),
    Mistake(
        lambda logits, temperature, uniforms: inverted(logits.astype(np.float64) / temperature, uniforms),
        Text(
            "the softmax is missing: cumulative sums need probabilities, not logits.",
            "少了 softmax：求累积和要用概率，而不是 logits。",
        ),
    ),
    Mistake(
        lambda logits, temperature, uniforms: inverted(np.exp(logits.astype(np.float64) / temperature), uniforms),
        Text(
            "exp alone is not softmax: divide by the sum of the row, so that it adds up to 1.",
            "只取 exp 还不是 softmax：要除以该行的和，使总和为 1。",
        ),
    ),
)

EXERCISES = (
    Exercise(
        "top_k",
        "logits, k",
        ("codebook", "code"),
        _top_k_cases,
        reference_top_k,
        TOP_K_MISTAKES,
        tidy=tidy,
        notes=((very_low, VERY_LOW),),
    ),
    Exercise(
        "sample",
        "logits, temperature, uniforms",
        ("codebook",),
        _sample_cases,
        reference_sample,
        SAMPLE_MISTAKES,
        whole=True,
    ),
)
