"""Exercise 6: `batch_decode`, which takes the padding of audio prompts off again."""

import numpy as np

from ..musicgen.processing import MusicgenProcessor
from .exercise import Case, Exercise, Mistake, Text


def reference(audio, padding_mask):
    """[B, C, N] audio and [B, M] mask, M <= N, to a list of [C, n]."""
    return MusicgenProcessor(tokenizer=None).batch_decode(audio, padding_mask)


def stripped(keep):
    """A wrong answer: keep(clip, row) says which samples of a clip stay."""

    def answer(audio, padding_mask):
        return [clip[:, keep(clip, row != 0)] for clip, row in zip(audio, padding_mask, strict=True)]

    return answer


def _extended(row, length, value=True):
    return np.concatenate([row, np.full(length - len(row), value)])


def _case(en, zh, paddings, prompt, made, channels=1, hint=None, quiet=0):
    """Clips whose audio begins with `prompt` samples, of which `paddings` are padding, and goes on for `made`."""
    rng = np.random.default_rng(8 + prompt)
    audio = np.round(rng.uniform(0.1, 0.9, (len(paddings), channels, prompt + made)), 3).astype(np.float32)
    mask = np.ones((len(paddings), prompt), np.int32)
    for clip, row, padding in zip(audio, mask, paddings, strict=True):
        row[:padding] = 0
        clip[:, padding : padding + quiet] = 0
    return Case(Text(en, zh), (audio, mask), hint)


def _cases():
    silence = Text(
        "padding is what the mask says, not where samples are 0: music may hold silence, and the codec turns padding "
        "into samples that are not exactly 0.",
        "哪里是填充由掩码决定，而不是看采样是否为 0：音乐里也会有静音，而编解码器输出的填充部分并不正好是 0。",
    )
    return [
        _case("two clips, 3 samples of padding before the second", "两段音频，第二段前面有 3 个填充采样", (0, 3), 6, 4),
        _case("no padding", "没有填充", (0, 0), 5, 3),
        _case("three clips, nothing generated", "三段音频，没有新生成的部分", (2, 0, 4), 8, 0),
        _case("silence in the music", "音乐里有静音", (1, 4), 7, 5, hint=silence, quiet=2),
        _case("stereo", "立体声", (3, 1), 6, 4, channels=2),
    ]


MISTAKES = (
    Mistake(
        lambda audio, padding_mask: list(audio),
        Text(
            "the padding is still there: of clip i only the samples stay where its mask is 1, "
            "and what follows the mask.",
            "填充还没有去掉：第 i 段只保留掩码为 1 的采样，以及掩码之后的全部采样。",
        ),
    ),
    Mistake(
        stripped(lambda clip, row: _extended(row, clip.shape[1], False)),
        Text(
            "the music that was generated is gone: the mask covers only the prompt. Extend it with ones, not with "
            "zeros.",
            "新生成的音乐丢了：掩码只覆盖提示部分。应当用 1 来延长掩码，而不是 0。",
        ),
    ),
    Mistake(
        stripped(lambda clip, row: _extended(~row, clip.shape[1], True)),
        Text("the mask is the wrong way round: 1 marks music, 0 padding.", "掩码用反了：1 是音乐，0 是填充。"),
    ),
    Mistake(
        stripped(lambda clip, row: _extended(~row, clip.shape[1], False)),
        Text("only the padding is left: 1 in the mask marks music.", "只留下了填充部分：掩码里的 1 表示音乐。"),
    ),
    Mistake(
        lambda audio, padding_mask: [
            clip[:, : clip.shape[1] - (row == 0).sum()] for clip, row in zip(audio, padding_mask, strict=True)
        ],
        Text(
            "as many samples are cut as there is padding, but from the end; the padding is at the beginning (left).",
            "去掉的个数对，但是从末尾去掉的；填充在开头（左边）。",
        ),
    ),
    Mistake(
        lambda audio, padding_mask: [clip[:, (padding_mask == 0).sum(axis=1).max() :] for clip in audio],
        Text(
            "every clip is cut like the one with the most padding; each clip has its own mask.",
            "每一段都按填充最多的那段来裁剪了；每一段各有自己的掩码。",
        ),
    ),
    Mistake(
        lambda audio, padding_mask: [clip[0] for clip in reference(audio, padding_mask)],
        Text(
            "the axis of channels is lost: each clip is [channels, samples], in mono too.",
            "声道轴丢了：每一段的形状是 [声道，采样]，单声道也一样。",
        ),
    ),
    Mistake(
        lambda audio, padding_mask: [clip.T for clip in reference(audio, padding_mask)],
        Text("the axes are exchanged: each clip is [channels, samples].", "轴颠倒了：每一段的形状是 [声道，采样]。"),
    ),
    Mistake(
        lambda audio, padding_mask: [clip[:, clip[0] != 0] for clip in audio],
        Text(
            "samples that are 0 were removed; what is padding is said by the mask. Music may hold silence.",
            "去掉的是值为 0 的采样；哪里是填充由掩码决定。音乐里也可能有静音。",
        ),
    ),
    Mistake(
        lambda audio, padding_mask: [
            np.where(_extended(row != 0, clip.shape[1]), clip, 0) for clip, row in zip(audio, padding_mask, strict=True)
        ],
        Text(
            "the padding is set to 0 but still there: the clips have to become shorter.",
            "填充被置成了 0，但还留着：每段音频应当变短。",
        ),
    ),
)

EXERCISES = (
    Exercise("batch_decode", "audio, padding_mask", ("channel", "sample"), _cases, reference, MISTAKES, clips=True),
)
