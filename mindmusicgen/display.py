"""Music to hear and to see in a notebook: a player, and pictures of sound, of codes and of the delay pattern.

Every `plot_` function returns a matplotlib Figure, which a notebook shows and `savefig` writes. Labels are English or
Chinese (`set_language`), and a font in this package draws the Chinese.
"""

import base64
import functools
import html
import importlib
import io
import os
from pathlib import Path

import numpy as np
from matplotlib import font_manager, rcParams
from matplotlib.figure import Figure

from .arguments import number
from .audio import read_audio
from .errors import InputError, shown
from .language import asked
from .runtime.files import check_writable, whole_file
from .runtime.telling import quoted
from .sound.samples import as_clip, is_path, recordings
from .sound.sound_file import SoundFile

FONT = Path(__file__).parent / "fonts" / "WenQuanYiMicroHei-Subset.ttf"
LABELS = {
    "en": {
        "seconds": "seconds",
        "kilohertz": "frequency in kHz",
        "amplitude": "amplitude",
        "codebook": "codebook",
        "code": "code",
        "column": "column (one decoding step each)",
        "padding": "P: padding",
        "prompt": "from the audio prompt",
        "free": "predicted (the number is the frame)",
        "waveform": "Waveform",
        "spectrogram": "Spectrogram",
        "codes": "Codes",
        "decibel": "dB",
        "prompt text": "prompt\n“80s pop with drums”",
        "text encoder": "text encoder (T5)\n{} layers, width {}",
        "decoder": "decoder\n{} layers, width {}\n{} codebooks\nof {} codes",
        "codec": "codec (EnCodec)\n1 frame = {} samples",
        "audio": "music\n{} samples a second",
        "lyrics": "lyrics",
        "states": "a vector for\neach token",
        "frames": "{:g} frames of codes\na second",
    },
    "zh": {
        "seconds": "时间（秒）",
        "kilohertz": "频率（kHz）",
        "amplitude": "振幅",
        "codebook": "码本",
        "code": "编码",
        "column": "列（每列是一步解码）",
        "padding": "P：填充",
        "prompt": "来自音频提示",
        "free": "由模型预测（数字是帧号）",
        "waveform": "波形",
        "spectrogram": "频谱图",
        "codes": "编码",
        "decibel": "分贝",
        "prompt text": "提示词\n“80s pop with drums”",
        "text encoder": "文本编码器（T5）\n{} 层，宽度 {}",
        "decoder": "解码器\n{} 层，宽度 {}\n{} 个码本\n每个 {} 个编码",
        "codec": "编解码器（EnCodec）\n1 帧 = {} 个采样",
        "audio": "音乐\n每秒 {} 个采样",
        "lyrics": "歌词",
        "states": "每个词元\n一个向量",
        "frames": "每秒 {:g} 帧\n编码",
    },
}
OF_MUSICGEN = ("plot_delay_pattern", "plot_stages")  # pictures that live with their family
LETTERS = 64  # that can be read beside a picture
QUIETEST = -80.0  # dB below the loudest point of a spectrogram that are still drawn
BLUE, GREY, ORANGE = "#2f6fab", "#d9d9d9", "#f2a541"
_language = "en"


def set_language(language):
    """Choose the language of labels for all pictures that follow.

    Args:
        language (str): "en" or "zh".

    Raises:
        InputError: for another language.
    """
    global _language
    if language not in LABELS:
        raise InputError(f"language is {language!r}; expected {' or '.join(map(repr, LABELS))}")
    _language = language
    use_fonts()


@functools.cache
def use_fonts():
    """Let every matplotlib picture of this program fall back on the package's font for Chinese characters."""
    font_manager.fontManager.addfont(FONT)
    name = font_manager.FontProperties(fname=FONT).get_name()
    rcParams["font.family"] = [*rcParams["font.family"], name]


def label(name):
    """A label in the chosen language."""
    return LABELS[asked() or _language][name]


class Picture(Figure):
    """A figure that a notebook shows without pyplot, which would keep it in memory and might show it twice."""

    def __init__(self, width=9.0, height=2.4):
        use_fonts()
        super().__init__(figsize=(width, height), layout="constrained")

    def _repr_png_(self):
        made = io.BytesIO()
        self.savefig(made, format="png", dpi=90)
        return made.getvalue()


def player(audio, rate=None, captions=None):
    """Something to press play on, in a notebook. The sound is kept as MP3, so that notebooks stay small.

    Args:
        audio (Tensor | numpy.ndarray | Sequence | str): floats, [samples], [channels, samples], [samples, channels],
            [B, channels, samples]; an audio file; (rate, samples); or a list of these, which gives a player for each.
        rate (int): samples per second of arrays; a file knows its own.
        captions (str | Sequence[str]): a line above each player.

    Returns:
        IPython.display.HTML

    Raises:
        InputError: if the audio is empty or not finite, or the captions do not fit it.
    """
    from IPython.display import HTML

    clips = [_heard(*one) for one in recordings(audio, rate)]
    captions = [captions] if isinstance(captions, str) else list(captions or [""] * len(clips))
    if len(captions) != len(clips):
        raise InputError(f"there are {len(captions)} captions for {len(clips)} clips; give one for each")
    parts = []
    for (clip, rate), caption in zip(clips, captions, strict=True):
        kind, sound = _encoded(clip, rate)
        title = f"<div>{html.escape(caption)}</div>" if caption else ""
        source = f"data:{kind};base64,{base64.b64encode(sound).decode()}"
        parts.append(f'<div style="margin: 6px 0">{title}<audio controls src="{source}"></audio></div>')
    return HTML("".join(parts))


def _heard(audio, rate):
    """A file or an array as a clip [channels, samples] and its rate."""
    if not is_path(audio):
        return as_clip("audio", audio), rate
    file = SoundFile(audio)
    return read_audio(audio, file.rate, file.channels if file.channels <= 2 else 1), file.rate


def _encoded(clip, rate):
    """A clip [channels, samples] as bytes that browsers play, and their type."""
    import soundfile

    container, kind = ("MP3", "audio/mpeg") if "MP3" in soundfile.available_formats() else ("WAV", "audio/wav")
    made, samples = io.BytesIO(), np.clip(clip.T, -1, 1)
    try:
        soundfile.write(made, samples, rate, format=container)
    except (RuntimeError, ValueError):  # MP3 knows few sampling rates and at most two channels
        made, kind = io.BytesIO(), "audio/wav"
        soundfile.write(made, samples, rate, format="WAV")
    return kind, made.getvalue()


def plot_waveform(audio, rate, title=None):
    """The samples of a clip over time.

    Args:
        audio (Tensor | numpy.ndarray): [samples], [channels, samples] or [1, channels, samples].
        rate (int): samples per second.
        title (str): above the picture.

    Returns:
        matplotlib.figure.Figure

    Raises:
        InputError: if this is no audio.
    """
    clip = as_clip("audio", audio)
    figure = Picture(height=1.9)
    _draw_waveform(figure.subplots(), clip, _check_rate(rate), title)
    return figure


def plot_spectrogram(audio, rate, title=None, highest=None):
    """How strong each frequency is over time, in decibels below the loudest point; channels are averaged.

    Args:
        audio (Tensor | numpy.ndarray): [samples], [channels, samples] or [1, channels, samples].
        rate (int): samples per second.
        title (str): above the picture.
        highest (float): the frequency in Hz where the picture ends; None for all.

    Returns:
        matplotlib.figure.Figure

    Raises:
        InputError: if this is no audio.
    """
    clip = as_clip("audio", audio)
    figure = Picture()
    _draw_spectrogram(figure, figure.subplots(), clip, _check_rate(rate), title, highest)
    return figure


def plot_codes(codes, frame_rate=50, title=None):
    """Codes as an image: a row for each codebook, a column for each frame, a colour for each code.

    Args:
        codes (Tensor | numpy.ndarray): [K, frames] or [1, K, frames], whole numbers.
        frame_rate (float): frames per second.
        title (str): above the picture.

    Returns:
        matplotlib.figure.Figure

    Raises:
        InputError: if these are no codes.
    """
    codes = _codes(codes)
    figure = Picture(height=1.9)
    _draw_codes(figure, figure.subplots(), codes, _check_rate(frame_rate), title)
    return figure


def plot_piece(audio, rate, codes=None, frame_rate=50, title=None):
    """Waveform, spectrogram and codes of one clip in one picture.

    Args:
        audio (Tensor | numpy.ndarray): [samples], [channels, samples] or [1, channels, samples].
        rate (int): samples per second.
        codes (Tensor | numpy.ndarray): [K, frames] or [1, K, frames]; None leaves them out.
        frame_rate (float): frames per second of the codes.
        title (str): above the picture.

    Returns:
        matplotlib.figure.Figure

    Raises:
        InputError: if this is no audio, or these are no codes.
    """
    clip, rate = as_clip("audio", audio), _check_rate(rate)
    codes = None if codes is None else _codes(codes)
    heights = [1.6, 2.4] if codes is None else [1.6, 2.4, 1.6]
    figure = Picture(height=sum(heights))
    axes = figure.subplots(len(heights), 1, height_ratios=heights)
    _draw_waveform(axes[0], clip, rate, label("waveform"))
    _draw_spectrogram(figure, axes[1], clip, rate, label("spectrogram"))
    if codes is not None:
        _draw_codes(figure, axes[2], codes, frame_rate, label("codes"))
    if title:
        figure.suptitle(title)
    return figure


def plot_alignment(alignment, lyrics, seconds, title=None):
    """Which characters of the lyrics a Jukebox looks at over time: darker is more.

    Args:
        alignment (Tensor | numpy.ndarray): [codes, characters], one of what `JukeboxModel.align` returns.
        lyrics (str): as the model reads them, see `JukeboxTokenizer.clean_lyrics`: a character for each column.
        seconds (float): how long the codes sound.
        title (str): above the picture.

    Returns:
        matplotlib.figure.Figure

    Raises:
        InputError: if this is no alignment, or the lyrics have another length.
    """
    values = _array(alignment)
    if values.ndim != 2 or not values.size or not np.issubdtype(values.dtype, np.floating):
        raise InputError(
            f"alignment has shape {values.shape} and type {values.dtype}; expected numbers, (codes, characters): of "
            "several samples give one, as in alignments[0]"
        )
    if not isinstance(lyrics, str) or len(lyrics) != values.shape[1]:
        raise InputError(
            f"lyrics are {shown(lyrics)}; expected text of {values.shape[1]} characters, those of the alignment"
        )
    seconds = number("seconds", seconds, 0, above=True)
    figure = Picture(height=min(max(0.1 * len(lyrics), 1.6), 5.2) + 0.6)
    axes = figure.subplots()
    extent = (0, seconds, len(lyrics) - 0.5, -0.5)
    axes.imshow(values.T, aspect="auto", interpolation="nearest", cmap="Blues", vmin=0, extent=extent)
    axes.set(xlabel=label("seconds"), ylabel=label("lyrics"), title=title or "")
    letters = ["⏎" if letter == "\n" else letter for letter in lyrics]
    if len(letters) <= LETTERS:
        axes.set_yticks(range(len(letters)), letters, fontsize=7, family="monospace")
    else:
        axes.set_yticks([])
    return figure


def check_picture(path):
    """Refuse a path that no picture can be written to.

    Raises:
        InputError: for an ending other than .png, or a folder that does not exist or cannot be written.
    """
    if os.path.splitext(path)[1].lower() != ".png":
        raise InputError(f"plot {quoted(path)} does not end in '.png'; give a name such as out.png")
    check_writable(path, "plot")


def save_picture(figure, path):
    """Write a figure as PNG; the file appears whole or not at all.

    Raises:
        InputError: if the path cannot be written.
    """
    check_picture(path)
    try:
        with whole_file(path) as partial:
            figure.savefig(partial, format="png", dpi=110)
    except OSError as error:
        raise InputError(f"plot {path!r} cannot be written: {error.strerror or error}") from error


def _draw_waveform(axes, clip, rate, title):
    # Beyond some thousand points a line shows nothing more: the range of each group of samples does.
    groups = min(2000, clip.shape[1])
    edges = np.linspace(0, clip.shape[1], groups + 1).astype(int)[:-1]
    for channel, values in enumerate(clip):
        low, high = np.minimum.reduceat(values, edges), np.maximum.reduceat(values, edges)
        axes.fill_between(edges / rate, low, high, color=(BLUE, ORANGE)[channel % 2], alpha=0.9 / len(clip) + 0.1)
    axes.set(xlabel=label("seconds"), ylabel=label("amplitude"), title=title or "")
    axes.set(xlim=(0, clip.shape[1] / rate))
    axes.grid(alpha=0.3)


def _draw_spectrogram(figure, axes, clip, rate, title, highest=None):
    from scipy.signal import ShortTimeFFT
    from scipy.signal.windows import hann

    window = 2048
    samples = clip.mean(axis=0)
    samples = np.pad(samples, (0, max(window - len(samples), 0)))
    # More rows and columns than these make the picture large, not clearer.
    hop = max(window // 8, len(samples) // 300)
    power = ShortTimeFFT(hann(window, sym=False), hop, rate, scale_to="magnitude").spectrogram(samples)
    bins = len(power) - 1 if highest is None else int(np.clip(highest / rate * window, 1, len(power) - 1))
    group = max(bins // 128, 1)
    rows = bins // group
    power = power[: rows * group].reshape(rows, group, -1).max(axis=1)
    decibels = 10 * np.log10(power / max(power.max(), 1e-12) + 1e-12)
    image = axes.imshow(
        decibels,
        aspect="auto",
        interpolation="nearest",
        origin="lower",
        cmap="magma",
        vmin=QUIETEST,
        vmax=0,
        extent=(0, clip.shape[1] / rate, 0, rows * group * rate / window / 1000),
    )
    axes.set(xlabel=label("seconds"), ylabel=label("kilohertz"), title=title or "")
    figure.colorbar(image, ax=axes, label=label("decibel"), pad=0.01)


def _draw_codes(figure, axes, codes, frame_rate, title):
    books, frames = codes.shape
    extent = (0, frames / frame_rate, books + 0.5, 0.5)
    image = axes.imshow(codes, aspect="auto", interpolation="nearest", cmap="turbo", extent=extent)
    axes.set(xlabel=label("seconds"), ylabel=label("codebook"), title=title or "")
    axes.set_yticks(range(1, books + 1))
    figure.colorbar(image, ax=axes, label=label("code"), pad=0.01)


def _array(values):
    """A Tensor or anything that NumPy takes, as an array."""
    return values.asnumpy() if hasattr(values, "asnumpy") else np.asarray(values)


def _codes(codes):
    """Codes of one clip, [K, frames]."""
    values = _array(codes)
    if values.ndim == 3 and len(values) == 1:
        values = values[0]
    if values.ndim != 2 or not values.size or not np.issubdtype(values.dtype, np.integer):
        raise InputError(
            f"codes has shape {values.shape} and type {values.dtype}; expected whole numbers, (codebooks, frames): of "
            "a batch give one piece, as in codes[0]"
        )
    return values


def _check_rate(rate):
    """Refuse what is no number of samples or frames per second."""
    if isinstance(rate, bool) or not isinstance(rate, (int, float, np.number)) or not 0 < rate < 1e7:
        raise InputError(f"the rate is {rate!r}; expected samples per second, such as 32000 (frames: 50)")
    return rate


def __getattr__(name):
    """`plot_delay_pattern` and `plot_stages`, which lessons import from here."""
    if name in OF_MUSICGEN:
        return getattr(importlib.import_module(".musicgen.pictures", __package__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
