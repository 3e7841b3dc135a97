"""Audio files: what is written is what was given, whole or not at all."""

import os

import numpy as np
import pytest
import soundfile

from mindmusicgen import InputError, write_audio
from mindmusicgen.audio import normalized, read_comment


def tone(seconds=1.0, channels=1, rate=32000):
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)
    return np.tile(wave.astype(np.float32), (channels, 1))


@pytest.mark.parametrize(("ending", "error"), [("wav", 2**-15), ("flac", 2**-23)])
@pytest.mark.parametrize("channels", [1, 2])
def test_lossless_formats_return_the_samples(tmp_path, ending, error, channels):
    samples = tone(channels=channels)
    peak = write_audio(str(tmp_path / f"a.{ending}"), samples, 32000)
    assert peak == pytest.approx(0.5, abs=1e-4)
    read, rate = soundfile.read(tmp_path / f"a.{ending}", always_2d=True)
    assert rate == 32000 and read.shape == samples.T.shape
    assert np.abs(read - samples.T).max() <= error


def test_long_vorbis_files_do_not_crash(tmp_path):
    write_audio(str(tmp_path / "a.ogg"), tone(60), 32000)
    assert soundfile.info(tmp_path / "a.ogg").frames == 60 * 32000


def test_samples_beyond_full_scale_are_clipped_and_reported(tmp_path):
    assert write_audio(str(tmp_path / "a.wav"), 4 * tone(), 32000) == pytest.approx(2, abs=1e-3)
    assert np.abs(soundfile.read(tmp_path / "a.wav")[0]).max() <= 1


def test_refuses_samples_that_are_not_finite_and_keeps_the_old_file(tmp_path):
    path = str(tmp_path / "a.wav")
    write_audio(path, tone(), 32000)
    before = (tmp_path / "a.wav").read_bytes()
    with pytest.raises(InputError, match="not finite"):
        write_audio(path, np.full(10, np.nan), 32000)
    assert (tmp_path / "a.wav").read_bytes() == before


def test_a_failure_midway_leaves_nothing(tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(soundfile.SoundFile, "write", full_disk)
    with pytest.raises(InputError, match="No space left"):
        write_audio(str(tmp_path / "a.wav"), tone(), 32000)
    assert os.listdir(tmp_path) == []


def test_bit_depths(tmp_path):
    for name, depth, error in (("a.wav", 24, 2**-23), ("b.wav", 32, 0), ("c.flac", 16, 2**-15)):
        write_audio(str(tmp_path / name), tone(), 32000, bit_depth=depth)
        assert np.abs(soundfile.read(tmp_path / name, dtype="float32")[0] - tone()[0]).max() <= error
    assert soundfile.info(tmp_path / "b.wav").subtype == "FLOAT"
    write_audio(str(tmp_path / "d.wav"), 4 * tone(), 32000, bit_depth=32)
    assert np.abs(soundfile.read(tmp_path / "d.wav")[0]).max() == pytest.approx(2, abs=1e-3)
    with pytest.raises(InputError, match="bit depth 8 does not exist in .wav files; expected 16 or 24 or 32"):
        write_audio(str(tmp_path / "e.wav"), tone(), 32000, bit_depth=8)


def test_normalisation():
    quiet = 0.1 * tone(2.0, channels=2)
    assert np.abs(normalized(quiet, 32000, "peak")).max() == pytest.approx(10 ** (-1 / 20), rel=1e-5)
    # A sine of 997 Hz at full scale in one channel has -3.01 LUFS (ITU-R BS.1770).
    sine = np.sin(2 * np.pi * 997 * np.arange(64000) / 32000)[None].astype(np.float32)
    loud = normalized(0.05 * sine, 32000, "loudness")
    assert 20 * np.log10(np.abs(loud).max()) == pytest.approx(-14 + 3.01, abs=0.1)
    click = np.zeros((1, 64000), np.float32)
    click[0, 5::6400] = 0.01
    assert np.abs(normalized(click, 32000, "loudness")).max() <= 10 ** (-1 / 20) * 1.0001
    for how in ("none", "peak", "loudness"):
        assert not normalized(np.zeros((1, 40000), np.float32), 32000, how).any()
        assert normalized(tone(0.1), 32000, how).shape == tone(0.1).shape
    with pytest.raises(InputError, match="normalize is 'rms'"):
        normalized(quiet, 32000, "rms")


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg"])
def test_comments_come_back(tmp_path, ending):
    path = str(tmp_path / f"a.{ending}")
    write_audio(path, tone(), 32000, comment='{"prompt": "明るい chiptune"}')
    assert read_comment(path) == '{"prompt": "明るい chiptune"}'
    write_audio(path, tone(), 32000)
    assert read_comment(path) == ""
    (tmp_path / "b.wav").write_bytes(b"no audio")
    with pytest.raises(InputError, match="cannot be read"):
        read_comment(str(tmp_path / "b.wav"))
