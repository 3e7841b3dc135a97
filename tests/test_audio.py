"""Audio files: what is written is what was given, whole or not at all."""

import os

import numpy as np
import pytest
import soundfile

from mindmusicgen import InputError, write_audio


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
