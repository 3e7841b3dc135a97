"""Pictures of how MusicGen works: the delay pattern, and the stages with their shapes."""

import numpy as np

from ..display import BLUE, GREY, ORANGE, Picture, label
from ..errors import InputError
from .delay_pattern import FREE, build_pattern, codebook_delays


def plot_delay_pattern(length=10, num_codebooks=4, audio_channels=1, prompt_frames=0, title=None):
    """What each column must hold, from the mask that `generate` itself works with.

    Args:
        length (int): columns, the start column included; at most 60 can be read.
        num_codebooks (int): rows.
        audio_channels (int): 1, or 2 for interleaved stereo, where two rows share a delay.
        prompt_frames (int): frames of an audio prompt.
        title (str): above the picture.

    Returns:
        matplotlib.figure.Figure

    Raises:
        InputError: if a number is too small or too large.
    """
    for name, value, low, high in (
        ("length", length, 2, 60),
        ("num_codebooks", num_codebooks, 1, 16),
        ("audio_channels", audio_channels, 1, 2),
        ("prompt_frames", prompt_frames, 0, length - 1),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise InputError(f"{name} is {value!r}; expected a whole number from {low} to {high}")
    pad, known = -2, -3  # any two values that are no codes
    prompt = np.full((1, num_codebooks, prompt_frames), known, np.int32)
    pattern = build_pattern(prompt, length, pad, audio_channels)[0][0]  # [K, length]
    delays = codebook_delays(num_codebooks, audio_channels)
    figure = Picture(width=max(0.55 * length, 5.5), height=0.42 * num_codebooks + 1.2)
    axes = figure.subplots()
    colours = {pad: GREY, known: ORANGE, FREE: BLUE}
    for row, delay in enumerate(delays):
        for column, held in enumerate(pattern[row].tolist()):
            axes.fill_between([column - 0.48, column + 0.48], row - 0.46, row + 0.46, color=colours[held], linewidth=0)
            text = "P" if held == pad else str(column - delay)
            axes.text(column, row, text, ha="center", va="center", color="black" if held != FREE else "white")
    names = {pad: "padding", known: "prompt", FREE: "free"}
    for held in colours:
        if (pattern == held).any():
            axes.fill_between([], [], color=colours[held], label=label(names[held]))
    axes.set(xlabel=label("column"), ylabel=label("codebook"), title=title or "")
    axes.set(xlim=(-0.6, length - 0.4), ylim=(num_codebooks - 0.4, -0.6))
    axes.set_xticks(range(length))
    axes.set_yticks(range(num_codebooks), range(1, num_codebooks + 1))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    return figure


def plot_stages(config):
    """The three networks of a model and what passes between them, with the sizes of its config.

    Args:
        config (transformers.MusicgenConfig): `model.config`.

    Returns:
        matplotlib.figure.Figure
    """
    text, decoder, codec = config.text_encoder, config.decoder, config.audio_encoder
    boxes = (
        (label("prompt text"), GREY),
        (label("text encoder").format(text.num_layers, text.d_model), BLUE),
        (
            label("decoder").format(
                decoder.num_hidden_layers, decoder.hidden_size, decoder.num_codebooks, decoder.vocab_size
            ),
            BLUE,
        ),
        (label("codec").format(codec.hop_length), BLUE),
        (label("audio").format(codec.sampling_rate), GREY),
    )
    passed = ("", label("states"), label("frames").format(codec.frame_rate), "")
    figure = Picture(width=9.5, height=1.8)
    axes = figure.subplots()
    axes.set(xlim=(-0.42, 4.42), ylim=(-0.55, 1.1))
    axes.axis("off")
    for place, (text, colour) in enumerate(boxes):
        axes.fill_between([place - 0.36, place + 0.36], -0.5, 0.5, color=colour, linewidth=0)
        white = "white" if colour == BLUE else "black"
        axes.text(place, 0, text, ha="center", va="center", color=white, fontsize=8, linespacing=1.5)
    for place, text in enumerate(passed):
        arrow = {"arrowstyle": "-|>", "color": "black"}
        axes.annotate("", (place + 0.635, 0), (place + 0.365, 0), arrowprops=arrow)
        axes.text(place + 0.5, 0.58, text, ha="center", va="bottom", fontsize=8)
    return figure
