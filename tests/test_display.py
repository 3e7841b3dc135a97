"""Players and pictures: what they hold, what they refuse, and that Chinese text has its characters."""

import base64
import io
import os
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
from matplotlib.figure import Figure

from mindmusicgen import InputError, cli, display, notebook

RATE = 32000


@pytest.fixture(autouse=True)
def english():
    display.set_language("en")
    yield
    display.set_language("en")


@pytest.fixture
def clip():
    time = np.arange(RATE) / RATE
    return (0.5 * np.sin(2 * np.pi * 1000 * time)).astype(np.float32)


class Tensor:
    """Something that is not an array but turns into one."""

    def __init__(self, values):
        self.values = values

    def asnumpy(self):
        return self.values


def image_of(figure):
    """The picture as an array [height, width, 3]."""
    from matplotlib.image import imread

    return imread(io.BytesIO(figure._repr_png_()))[:, :, :3]


def sounds(player):
    """What the players of a cell hold: (samples, rate) of each."""
    found = re.findall(r'src="data:audio/\w+;base64,([^"]+)"', player.data)
    return [soundfile.read(io.BytesIO(base64.b64decode(text))) for text in found]


def test_player_holds_the_sound(clip):
    pytest.importorskip("IPython")
    ((samples, rate),) = sounds(display.player(Tensor(clip[None, None]), RATE))
    assert rate == RATE and abs(len(samples) - len(clip)) < 4000  # MP3 pads to whole blocks
    spectrum = np.abs(np.fft.rfft(samples[:RATE]))
    assert abs(int(spectrum.argmax()) - 1000) <= 1


def test_players_of_a_batch_and_their_captions(clip):
    pytest.importorskip("IPython")
    shown = display.player(np.stack([clip, clip])[:, None], RATE, captions=["<one>", "two"])
    assert len(sounds(shown)) == 2 and "&lt;one&gt;" in shown.data and "<one>" not in shown.data
    assert len(sounds(display.player([clip, clip[:9000]], RATE))) == 2
    with pytest.raises(InputError, match="1 captions for 2 clips"):
        display.player([clip, clip], RATE, captions="one")


def test_player_of_a_file_and_of_an_odd_rate(clip, tmp_path):
    pytest.importorskip("IPython")
    soundfile.write(tmp_path / "a.flac", clip, 22050)
    ((_, rate),) = sounds(display.player(str(tmp_path / "a.flac")))
    assert rate == 22050
    ((samples, rate),) = sounds(display.player(clip[:5000], 12345))
    assert rate == 12345 and len(samples) == 5000  # what MP3 cannot hold is WAV
    with pytest.raises(InputError, match="cannot be read"):
        display.player(str(tmp_path / "missing.wav"))


@pytest.mark.parametrize(
    "audio, reason",
    [
        (np.zeros(0, np.float32), "shape"),
        (np.zeros((2, 1, 100), np.float32), "of a batch give one piece"),
        (np.zeros(100, np.int16), "type int16"),
        (np.zeros((100, 3), np.float32), "100 channels"),
        (np.full(100, np.nan, np.float32), "not finite"),
    ],
)
def test_what_is_no_audio_is_refused(audio, reason):
    with pytest.raises(InputError, match=reason):
        display.plot_waveform(audio, RATE)


@pytest.mark.parametrize("rate", [0, -1, None, True, "fast", float("nan")])
def test_a_rate_that_is_none_is_refused(clip, rate):
    with pytest.raises(InputError, match="the rate is"):
        display.plot_spectrogram(clip, rate)


def test_waveform_shows_the_whole_clip_and_its_range(clip):
    axes = display.plot_waveform(Tensor(clip), RATE, title="A tone").axes[0]
    assert axes.get_title() == "A tone" and axes.get_xlim() == (0, 1)
    heights = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert abs(heights.max() - 0.5) < 0.01 and abs(heights.min() + 0.5) < 0.01


def test_waveform_of_stereo_and_of_few_samples(clip):
    assert len(display.plot_waveform(np.stack([clip, -clip]), RATE).axes[0].collections) == 2
    image_of(display.plot_waveform(clip[:3], RATE))
    image_of(display.plot_spectrogram(clip[:3], RATE))
    image_of(display.plot_spectrogram(np.zeros(5000, np.float32), RATE))


def test_spectrogram_is_brightest_at_the_tone(clip):
    image = display.plot_spectrogram(clip, RATE).axes[0].images[0]
    values = np.asarray(image.get_array())
    kilohertz = values[:, values.shape[1] // 2].argmax() / len(values) * RATE / 2000
    assert abs(kilohertz - 1) < 0.1 and abs(values.max()) < 1e-6


def test_spectrogram_ends_where_it_is_told(clip):
    image = display.plot_spectrogram(clip, RATE, highest=2000).axes[0].images[0]
    values = np.asarray(image.get_array())
    assert image.get_extent()[3] == 2
    assert abs(values[:, values.shape[1] // 2].argmax() / len(values) * 2 - 1) < 0.05


def test_codes_are_drawn_as_they_are():
    codes = np.arange(40).reshape(4, 10)
    axes = display.plot_codes(codes[None], 50).axes[0]
    assert np.array_equal(axes.images[0].get_array(), codes)
    assert axes.images[0].get_extent() == [0, 0.2, 4.5, 0.5]
    for wrong in (codes[0], codes.astype(np.float32), np.stack([codes, codes])):
        with pytest.raises(InputError, match="expected whole numbers"):
            display.plot_codes(wrong)


def test_a_piece_has_three_pictures_or_two(clip):
    whole = display.plot_piece(clip, RATE, np.zeros((4, 50), int), 50, "A title")
    assert isinstance(whole, Figure) and whole.get_suptitle() == "A title"
    titles = [axes.get_title() for axes in whole.axes]
    assert [title for title in titles if title] == ["Waveform", "Spectrogram", "Codes"]
    assert "Codes" not in [axes.get_title() for axes in display.plot_piece(clip, RATE).axes]


def test_an_alignment_is_drawn_as_it_is(capsys):
    weights = np.random.default_rng(0).random((20, 8), np.float32)
    axes = display.plot_alignment(weights, "do re\nmi", 2.5, "A title").axes[0]
    assert np.array_equal(axes.images[0].get_array(), weights.T) and axes.get_title() == "A title"
    assert axes.images[0].get_extent() == [0, 2.5, 7.5, -0.5]
    assert [one.get_text() for one in axes.get_yticklabels()] == list("do re⏎mi")
    assert len(display.plot_alignment(np.ones((4, 200), np.float32), "a" * 200, 1).axes[0].get_yticks()) == 0
    for wrong, lyrics, seconds, sentence in (
        (weights[None], "do re mi", 1, r"alignment has shape \(1, 20, 8\).*as in alignments\[0\]"),
        (weights.astype(int), "do re mi", 1, "expected numbers"),
        (weights, "do re", 1, "expected text of 8 characters"),
        (weights, ["do"], 1, "lyrics are"),
        (weights, "do re mi", 0, "seconds is 0"),
    ):
        with pytest.raises(InputError, match=sentence):
            display.plot_alignment(wrong, lyrics, seconds)


def letters(figure):
    """The texts in the cells of a delay pattern, [rows][columns]."""
    cells = {text.get_position(): text.get_text() for text in figure.axes[0].texts}
    columns, rows = (max(place) + 1 for place in zip(*cells, strict=True))
    return [[cells[column, row] for column in range(columns)] for row in range(rows)]


def test_delay_pattern_shows_the_mask_of_generate():
    # The pattern at the head of musicgen/delay_pattern.py.
    rows = letters(display.plot_delay_pattern(8))
    assert ["".join("P" if cell == "P" else "." for cell in row) for row in rows] == [
        "P....PPP",
        "PP....PP",
        "PPP....P",
        "PPPP....",
    ]
    assert rows[2][3:7] == ["1", "2", "3", "4"]  # the number of the frame
    stereo = letters(display.plot_delay_pattern(8, num_codebooks=4, audio_channels=2))
    assert stereo[0] == stereo[1] and stereo[2] == stereo[3] != stereo[0]


def test_delay_pattern_marks_the_prompt():
    figure = display.plot_delay_pattern(10, prompt_frames=3)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "P: padding",
        "from the audio prompt",
        "predicted (the number is the frame)",
    ]


@pytest.mark.parametrize(
    "wrong", [{"length": 1}, {"length": 61}, {"num_codebooks": 0}, {"audio_channels": 3}, {"prompt_frames": 10}]
)
def test_delay_pattern_refuses(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        display.plot_delay_pattern(**({"length": 10} | wrong))


def test_chinese_labels_have_their_characters(clip):
    display.set_language("zh")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of a character that no font has
        image_of(
            display.plot_piece(clip, RATE, np.zeros((4, 50), int), 50, "昇思与昇腾：“测试”，繁簡混排，鋼琴樂曲，カナ")
        )
        image_of(display.plot_delay_pattern(10, prompt_frames=2, title="延迟模式"))
    from matplotlib.ft2font import FT2Font

    font = FT2Font(str(display.FONT))
    known = set(font.get_charmap())
    used = {c for text in display.LABELS["zh"].values() for c in text if ord(c) > 0x2E80}
    assert used and not {c for c in used if ord(c) not in known}
    assert set(display.LABELS["zh"]) == set(display.LABELS["en"])


def two_bytes(charset, first=range(0xA1, 0xFF)):
    """The characters that two bytes of a charset give, those whose first byte is in a range."""
    pairs = [bytes([one, two]) for one in first for two in (*range(0x40, 0x7F), *range(0xA1, 0xFF))]
    return {text for text in (pair.decode(charset, "ignore") for pair in pairs) if len(text) == 1 and ord(text) > 0x7F}


CHARSETS = {
    "vendors": (set("昇思昇腾鋼樂"), 5),
    "GB 2312": (two_bytes("gb2312"), 7445),
    "names of people, in GBK": (set("镕堃喆"), 3),
    "Big5, the common set": (two_bytes("big5", range(0xA4, 0xC7)), 5495),
    "Big5, the rest": (two_bytes("big5", range(0xC9, 0xFA)), 7652),
    "kana of JIS X 0208": (two_bytes("euc_jp", range(0xA4, 0xA6)), 169),
    "kana of Unicode": ({chr(code) for code in (*range(0x3041, 0x3097), *range(0x30A1, 0x30FB))}, 176),
}


@pytest.mark.parametrize("charset", CHARSETS)
def test_every_character_of_a_charset_draws(charset):
    """The font has each, and its picture is not the box of a missing one."""
    from matplotlib.ft2font import FT2Font

    characters, count = CHARSETS[charset]
    assert len(characters) == count
    known = FT2Font(str(display.FONT)).get_charmap()
    missing = {c for c in characters if not known.get(ord(c))}
    assert not missing, "".join(sorted(missing))[:50]


def test_the_font_is_small_and_its_licence_lies_beside_it():
    assert display.FONT.stat().st_size <= 6_000_000
    assert "Apache License" in (display.FONT.parent / "LICENSE").read_text(encoding="utf-8")
    assert display.FONT.name in (display.FONT.parent / "README.md").read_text(encoding="utf-8")


def test_another_language_is_refused():
    with pytest.raises(InputError, match="language is 'fr'"):
        display.set_language("fr")


def test_saved_whole_or_not_at_all(clip, tmp_path):
    figure = display.plot_waveform(clip, RATE)
    display.save_picture(figure, str(tmp_path / "a.png"))
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    for path, reason in (("a.jpg", "does not end in"), ("missing/a.png", "does not exist")):
        with pytest.raises(InputError, match=reason):
            display.save_picture(figure, str(tmp_path / path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


def test_generate_draws_what_it_made(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["generate", "pop $5 and $6", "--seed", "1", "--max-new-tokens", "20", "--copies", "2", "--plot", "out.png"]
    assert cli.main(words) == 0
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out-1.png", "out-1.wav", "out-2.png", "out-2.wav"]
    assert "out-2.png: waveform, spectrogram and codes" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, reason",
    [
        (["--plot", "out.jpg"], "does not end in '.png'"),
        (["--plot", "missing/out.png"], "does not exist"),
        (["--plot", "out.png", "--output", "-"], "nothing to draw"),
    ],
)
def test_generate_refuses_a_picture_before_it_begins(words, reason, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["generate", "pop", *words]) == 2
    assert reason in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_first_cell_says_what_was_found(language, capsys):
    notebook.begin(language)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and lines[0].startswith("mindmusicgen ")
    assert any("MindSpore" in line for line in lines) and "demo" in lines[-1]
    assert display.label("codes") == display.LABELS[language]["codes"]


def test_the_first_cell_can_leave_kept_graphs_out(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("MINDMUSICGEN_CACHE", str(tmp_path))
    notebook.begin("en", empty_cache=True)
    folder = Path(os.environ["MINDMUSICGEN_CACHE"])
    assert folder != tmp_path and folder.is_dir() and not list(folder.iterdir())
    assert "first calls compile" in capsys.readouterr().out.splitlines()[-1]
    monkeypatch.setenv("MINDMUSICGEN_CACHE", "0")  # off already
    notebook.begin("en", empty_cache=True)
    assert os.environ["MINDMUSICGEN_CACHE"] == "0"


def test_the_first_cell_chooses_the_language_of_errors(monkeypatch):
    monkeypatch.setenv("MINDMUSICGEN_LANG", "")
    monkeypatch.delenv("MINDMUSICGEN_LANG")
    notebook.begin("zh")
    assert str(InputError("text is missing; say what the music should be")) == "缺少 text；请说明想要什么音乐"
    monkeypatch.setenv("MINDMUSICGEN_LANG", "en")  # the user's choice stays
    notebook.begin("zh")
    assert os.environ["MINDMUSICGEN_LANG"] == "en"


@pytest.mark.parametrize(
    "version, said", [("2.5.0", "too old"), ("1.10.1", "too old"), ("2.12.0", "newer"), (None, "not installed")]
)
def test_the_first_cell_says_what_is_wrong_with_mindspore(version, said, monkeypatch, capsys):
    from importlib import metadata

    def found(name):
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(metadata, "version", found)
    notebook.begin("en")
    assert said in capsys.readouterr().out


def test_the_first_cell_knows_folders_and_hubs(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine").mkdir()
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example")
    notebook.begin("en", str(tmp_path / "mine"))
    notebook.begin("en", "facebook/musicgen-small")
    out = capsys.readouterr().out
    assert "the folder mine." in out and str(tmp_path) not in out
    assert "facebook/musicgen-small, downloaded on first use (from https://mirror.example)" in out
