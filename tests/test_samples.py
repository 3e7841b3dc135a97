"""The entrance for audio: what a user may call audio is right everywhere, or refused everywhere with a sentence."""

import numpy as np
import pytest
import soundfile

from mindmusicgen import InputError, display, write_audio
from mindmusicgen.musicgen.feature_extractors import EncodecFeatureExtractor
from mindmusicgen.musicgen.melody.chroma import chroma_features
from mindmusicgen.musicgen.processing import MusicgenProcessor
from mindmusicgen.sound.samples import LONGEST, as_batch, as_clip, fit_blocks, recordings

RATE = 32000


@pytest.fixture
def sine():
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(np.float32)


@pytest.fixture
def stereo(sine):
    return np.stack([sine, 0.5 * sine])


@pytest.fixture
def processor():
    return MusicgenProcessor(EncodecFeatureExtractor(1, RATE))


def heard(processor, audio, rate=RATE):
    return processor(audio=audio, sampling_rate=rate, return_tensors="np")["input_values"]


def entrances(folder):
    """Every way into the package for one recording."""
    processor = MusicgenProcessor(EncodecFeatureExtractor(1, RATE))
    return {
        "processor": lambda value: processor(audio=[value], sampling_rate=RATE, return_tensors="np"),
        "writer": lambda value: write_audio(str(folder / "a.wav"), value, RATE),
        "player": lambda value: display.player([value], RATE),
        "plot": lambda value: display.plot_waveform(value, RATE),
        "chroma": lambda value: chroma_features(value, RATE),
        "batch": lambda value: as_batch("audio", value),
    }


@pytest.mark.parametrize("entrance", ["processor", "writer", "player", "plot", "chroma", "batch"])
@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.zeros(9, np.int16), "divide by the largest value, 32768"),
        ([0, 1, 0], "has type int64"),
        (np.zeros(9, np.uint8), "divide by the largest value, 256"),
        (np.zeros(9, bool), "type bool"),
        (np.zeros(9, complex), "type complex128"),
        (np.array(["a", "b"]), "type <U1"),
        (np.array([0.5, None], object), "type object"),
        ({"samples": [0.5]}, "type object"),
        (np.zeros(0), "is empty"),
        (np.zeros((2, 0)), "is empty"),
        (np.array(0.5), r"shape \(\)"),
        ([[0.1, 0.2], [0.3]], "all rows equally long"),
        ([0.1, [0.2, 0.3]], "all rows equally long"),
        (np.zeros((4, 9)), r"shape \(4, 9\)"),
        (np.zeros((3, 2, 9)), r"shape \(3, 2, 9\)"),
        (np.zeros((1, 1, 1, 9)), r"shape \(1, 1, 1, 9\)"),
        (np.full(9, np.nan), "not finite"),
        (np.array([0.0, -np.inf]), "not finite"),
        (np.array([0.0, 1e300]), "not finite"),
    ],
)
def test_what_is_no_recording_is_refused_everywhere(tmp_path, entrance, bad, words):
    if entrance == "batch" and ("shape" in words or "rows" in words):
        words = "expected"
    if entrance == "batch" and getattr(bad, "shape", ())[1:] == (2, 9):
        return  # it is a batch
    with pytest.raises(InputError, match=words) as caught:
        entrances(tmp_path)[entrance](bad)
    said = str(caught.value)
    assert "\n" not in said and len(said) <= 300 and "; " in said
    assert not list(tmp_path.iterdir())


def test_whole_numbers_as_floats_are_refused_where_sound_comes_in(processor, sine):
    for loud in (sine * 32768, sine.astype(np.float64) * 1e30):
        with pytest.raises(InputError, match="holds samples up to .*; expected -1 to 1"):
            heard(processor, [loud])
    assert heard(processor, [sine * 8]).max() == pytest.approx(4, abs=1e-3)  # loud music is music


def test_every_layout_and_type_gives_the_same_clip(sine, stereo):
    for value in (
        stereo,
        stereo.T,
        stereo[None],
        stereo.astype(np.float64),
        stereo.tolist(),
        np.asfortranarray(stereo),
    ):
        np.testing.assert_array_equal(as_clip("audio", value), stereo)
    for value in (sine, sine[None], sine[:, None], sine[None, None], list(sine), sine.astype(np.float64)):
        np.testing.assert_array_equal(as_clip("audio", value), sine[None])
    assert as_clip("audio", np.zeros((2, 1))).shape == (2, 1)  # two channels of a sample each
    assert as_clip("audio", np.zeros(4, np.float16)).dtype == np.float32


def test_several_recordings_are_several(processor, sine, stereo):
    for given in (np.stack([sine, -sine, sine])[:, None], [sine, -sine, sine], [(RATE, sine), -sine, sine.tolist()]):
        found = heard(processor, given)
        np.testing.assert_array_equal(found[:, 0], [sine, -sine, sine])
    assert heard(processor, np.stack([stereo] * 3)).shape == (3, 1, RATE)
    with pytest.raises(InputError, match=r"shape \(3, 32000\), 3 channels; expected one recording"):
        heard(processor, np.stack([sine] * 3))  # three prompts, or three channels? they were mixed into one once
    with pytest.raises(InputError, match=r"may be one stereo recording or two; give \[audio\]"):
        recordings(stereo, RATE, prompts=2)
    assert len(recordings([stereo], RATE, prompts=2)) == 1 and len(recordings(list(stereo), RATE, prompts=2)) == 2


def test_the_rate_may_come_with_the_samples(processor, sine, tmp_path):
    half = heard(processor, sine, 16000)
    assert half.shape == (1, 1, 2 * RATE)
    for given in ((16000, sine), (sine, 16000), {"array": sine, "sampling_rate": 16000}, [(sine, np.int64(16000))]):
        np.testing.assert_array_equal(heard(processor, given, None), half)
    with pytest.raises(InputError, match="comes with 16000 samples a second and sampling_rate is 44100"):
        heard(processor, (16000, sine), 44100)
    assert "<audio" in display.player((16000, sine)).data
    soundfile.write(tmp_path / "a.wav", sine, 16000)
    np.testing.assert_allclose(heard(processor, str(tmp_path / "a.wav"), None), half, atol=1e-4)


@pytest.mark.parametrize("rate", [None, 0, -1, 1, 1e9, 10**12, 44100.5, "44100", True, np.nan])
def test_absurd_rates_are_refused_before_anything_is_resampled(processor, sine, rate, tmp_path):
    for call in (
        lambda: heard(processor, sine, rate),
        lambda: display.player(sine, rate),
        lambda: write_audio(str(tmp_path / "a.wav"), sine, rate),
        lambda: chroma_features(sine, rate),
    ):
        with pytest.raises(InputError, match="sampling_rate is"):
            call()


def test_a_rate_without_a_common_factor_takes_little_memory(processor, sine):
    assert heard(processor, sine, 999_983).shape == (1, 1, 1025)  # an exact filter would have 20 million taps


def test_sides_that_cancel_are_said_to_cancel(processor, sine):
    for opposite in (np.stack([sine, -sine]), np.stack([sine, -0.999 * sine]).T):
        with pytest.raises(InputError, match="has sides that cancel each other when mixed; give one side"):
            heard(processor, opposite)
    both = MusicgenProcessor(EncodecFeatureExtractor(2, RATE))
    np.testing.assert_array_equal(heard(both, np.stack([sine, -sine]))[0], [sine, -sine])
    assert not heard(processor, np.zeros((2, 50), np.float32)).any()  # silence is not two sides that cancel
    assert np.abs(heard(processor, np.stack([sine, -0.9 * sine]))).max() == pytest.approx(0.025, abs=1e-3)


def test_what_lasts_too_long_is_refused(processor):
    endless = np.broadcast_to(np.float32(0.1), int(LONGEST * 1000) + 1001)
    with pytest.raises(InputError, match="audio lasts 601 s; expected at most 600 s; cut it"):
        heard(processor, endless, 1000)


@pytest.mark.parametrize("rate", [44100, 8000, 96000, 32000, 44101])
def test_blocks_are_resampled_as_one(rate):
    from scipy.signal import resample_poly

    rng = np.random.default_rng(0)
    whole = rng.standard_normal((2, 600_001)).astype(np.float32)
    blocks = np.split(whole, np.sort(rng.integers(1, 600_000, 7)), axis=1)
    found = np.concatenate(list(fit_blocks("audio", blocks, rate, RATE, 2)), axis=1)
    expected = whole if rate == RATE else resample_poly(whole, RATE, rate, axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_written_layouts_come_back(tmp_path, sine, stereo):
    path = str(tmp_path / "a.wav")
    for value in (stereo, stereo.T, stereo[None]):
        write_audio(path, value, RATE, bit_depth=32)
        np.testing.assert_array_equal(soundfile.read(path, dtype="float32")[0].T, stereo)
    with pytest.raises(InputError, match="divide by the largest value, 32768"):
        write_audio(path, (sine * 32767).astype(np.int16), RATE)  # it was written as silence once
    np.testing.assert_array_equal(soundfile.read(path, dtype="float32")[0].T, stereo)
