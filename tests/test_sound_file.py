"""Audio files are read to their end, whatever their headers say, in blocks, or are refused with a sentence."""

import os
import struct
import tracemalloc

import numpy as np
import pytest
import soundfile

from mindmusicgen import InputError, display
from mindmusicgen.audio import UnusableAudio, read_audio, read_blocks, read_comment, write_audio
from mindmusicgen.musicgen.melody.processing import MusicgenMelodyProcessor
from mindmusicgen.sound import samples, sound_file
from mindmusicgen.sound.sound_file import SoundFile

RATE = 32000


def tone(seconds, hertz=440, channels=1, rate=RATE):
    wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)
    return np.tile(wave.astype(np.float32)[:, None], (1, channels))


def written(path, values, rate=RATE, **options):
    soundfile.write(path, values, rate, **options)
    return bytearray(path.read_bytes())


def without_length(flac):
    """A FLAC stream as an encoder writes it that cannot go back: the header's number of samples is 0."""
    word = int.from_bytes(flac[18:26], "big")
    return flac[:18] + (word >> 36 << 36).to_bytes(8, "big") + flac[26:]


@pytest.fixture(params=["all at once", "small blocks"])
def blocks(request, monkeypatch):
    """Files of a few seconds stand for long ones."""
    if request.param == "small blocks":
        monkeypatch.setattr(sound_file, "VALUES", 1000)
        monkeypatch.setattr(samples, "BLOCK", 4000)


@pytest.mark.parametrize(("channels", "rate"), [(1, RATE), (2, 44100)])
def test_a_flac_without_a_length_is_read_to_its_end(tmp_path, blocks, channels, rate):
    path = tmp_path / "a.flac"
    whole = written(path, tone(2, channels=channels, rate=rate), rate)
    expected = read_audio(str(path), RATE, channels)
    path.write_bytes(without_length(whole))
    assert SoundFile(str(path)).seconds == np.inf
    np.testing.assert_array_equal(read_audio(str(path), RATE, channels), expected)
    path.write_bytes(without_length(whole)[: len(whole) * 3 // 4])  # and the recorder died in the middle of a frame
    cut = read_audio(str(path), RATE, channels)
    assert 0.6 < cut.shape[1] / expected.shape[1] < 0.76
    np.testing.assert_allclose(cut[:, :-50], expected[:, : cut.shape[1] - 50], atol=1e-6)
    damaged = without_length(whole)
    damaged[len(whole) // 3 : len(whole) // 3 + 400] = bytes(400)
    path.write_bytes(damaged)
    with pytest.raises(UnusableAudio, match="cannot be read"):  # not silently a third of it
        read_audio(str(path), RATE, channels)


@pytest.mark.parametrize(
    ("riff", "data"),
    [(0, 0), (36, 0), (0xFFFFFFFF, 0xFFFFFFFF), (None, 0), (None, 20000), (0x7FFFFFF0, 0x7FFFFF00), (0, 64000)],
)
def test_a_wav_whose_sizes_were_never_filled_in_is_read_to_its_end(tmp_path, riff, data):
    path = tmp_path / "a.wav"
    values = tone(2)
    whole = written(path, values)
    at = whole.find(b"data")
    whole[4:8] = struct.pack("<I", len(whole) - 8 if riff is None else riff)
    whole[at + 4 : at + 8] = struct.pack("<I", data)
    path.write_bytes(whole)
    np.testing.assert_allclose(read_audio(str(path), RATE, 1), values.T, atol=1e-4)


@pytest.mark.parametrize(
    ("ending", "size_at", "size"),
    [
        ("rf64", lambda whole: whole.find(b"ds64") + 16, bytes(8)),
        ("rf64", lambda whole: whole.find(b"ds64") + 8, bytes(24)),
        ("caf", lambda whole: whole.find(b"data") + 4, b"\xff" * 8),
        ("au", lambda whole: 8, b"\xff" * 4),
        ("aiff", lambda whole: whole.find(b"SSND") + 4, bytes(4)),
        ("w64", lambda whole: whole.find(b"data") + 16, bytes(8)),
    ],
)
def test_other_formats_without_a_size_are_read_to_their_end(tmp_path, ending, size_at, size):
    path = tmp_path / f"a.{ending}"
    values = tone(2)
    whole = written(path, values, format="RF64" if ending == "rf64" else None)
    whole[size_at(whole) : size_at(whole) + len(size)] = size
    path.write_bytes(whole)
    np.testing.assert_allclose(read_audio(str(path), RATE, 1), values.T, atol=1e-4)


def test_what_follows_the_samples_of_a_wav_is_no_sound(tmp_path):
    path = tmp_path / "a.wav"
    whole = written(path, tone(1))
    notes = b"LIST" + struct.pack("<I", 12) + b"INFOISFTabcd"
    for rest in (notes, b"\x01\x02", notes + b"id3 " + struct.pack("<I", 3) + b"abc\0"):
        changed = bytearray(whole + rest)
        if rest.startswith(b"LIST"):
            changed[4:8] = struct.pack("<I", len(changed) - 8)
        path.write_bytes(changed)
        assert read_audio(str(path), RATE, 1).shape == (1, RATE)
    empty = whole[:44]
    empty[40:44] = bytes(4)
    path.write_bytes(empty + notes)
    with pytest.raises(UnusableAudio, match="is empty"):
        read_audio(str(path), RATE, 1)


@pytest.mark.parametrize("ending", ["ogg", "flac", "mp3"])
def test_recordings_behind_one_another_are_all_heard(tmp_path, ending):
    parts, rates = [], (RATE, RATE, 24000)
    for number, rate in enumerate(rates):
        path = tmp_path / f"{number}.{ending}"
        written(path, tone(1 + number, 300 * (number + 1), 1 + number % 2, rate), rate)
        parts.append(read_audio(str(path), RATE, 1))
    chain = tmp_path / f"chain.{ending}"
    chain.write_bytes(b"".join((tmp_path / f"{number}.{ending}").read_bytes() for number in range(3)))
    found = read_audio(str(chain), RATE, 1)
    np.testing.assert_array_equal(found, np.concatenate(parts, axis=1))
    assert SoundFile(str(chain)).seconds == pytest.approx(6, abs=0.1)
    assert display.player(str(chain)).data.count("<audio") == 1


def test_wav_files_behind_one_another_are_refused(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(written(path, tone(1)) * 2)
    with pytest.raises(UnusableAudio, match="cannot be read"):
        read_audio(str(path), RATE, 1)


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3", "aiff", "au", "caf", "w64", "rf64"])
def test_every_format_is_read(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    written(path, tone(1), format="RF64" if ending == "rf64" else None)
    assert abs(read_audio(str(path), RATE, 1).shape[1] - RATE) < 2500
    assert read_audio(str(path), RATE, 1, upto=0.5).shape == (1, RATE // 2)


def test_an_hour_in_a_small_file_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    path = tmp_path / "hour.flac"
    with soundfile.SoundFile(path, "w", 8000, 2, "PCM_16") as file:
        for _ in range(601):
            file.write(np.zeros((8000, 2), np.int16))
    assert os.path.getsize(path) < 50_000
    with monkeypatch.context() as patch:
        patch.setattr(soundfile.SoundFile, "read", lambda *_, **__: pytest.fail("it was decoded"))
        with pytest.raises(UnusableAudio, match="lasts 601 s; expected at most 600 s; cut it"):
            read_audio(str(path), RATE, 1)
    path.write_bytes(without_length(bytearray(path.read_bytes())))
    with pytest.raises(UnusableAudio, match="lasts more than 600 s; expected at most 600 s"):
        read_audio(str(path), 8000, 1)
    tracemalloc.start()
    total = sum(piece.shape[1] for piece in read_blocks(SoundFile(str(path)), 8000, 1))
    assert total == 601 * 8000 and tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


def test_of_a_long_melody_only_the_beginning_is_decoded(tmp_path):
    path = tmp_path / "a.flac"
    whole = written(path, tone(100, rate=8000), 8000)
    damaged = without_length(whole)
    damaged[-len(whole) // 3 :] = bytes(len(whole) // 3)
    processor = MusicgenMelodyProcessor(None)
    for content, long in ((whole, "has 100.0 s"), (damaged, "has more than 30 s")):
        path.write_bytes(content)
        with pytest.warns(UserWarning, match=f"a.flac' {long} and the model hears 30 s"):
            found = processor(audio=str(path), return_tensors="np")["input_features"]
        assert found.shape == (1, 235, 12) and (found.argmax(axis=2)[0, 5:-5] == 9).all()


def test_files_of_nonsense_are_one_sentence(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.mp3").write_text("no audio")
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "head.wav").write_bytes(b"RIFF\xff\xff\xff\xffWAVEdata")  # ends where a size should stand
    (tmp_path / "head.rf64").write_bytes(b"RF64\xff\xff\xff\xffWAVEds64" + bytes(8) + b"data")
    (tmp_path / "head.caf").write_bytes(b"caff\0\1\0\0data\xff\xff\xff\xff")
    huge = written(tmp_path / "rate.wav", tone(0.1))
    huge[24:28] = struct.pack("<I", 1_999_999_999)
    (tmp_path / "rate.wav").write_bytes(huge)
    soundfile.write(tmp_path / "loud.wav", np.array([0.1, 1e300]), RATE, subtype="DOUBLE")
    soundfile.write(tmp_path / "pcm.wav", 32768 * tone(0.1), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "sides.wav", tone(0.1, channels=2) * [1, -1], RATE)
    reasons = {
        "pipe.wav": "cannot be read",
        "empty.wav": "cannot be read",
        "text.mp3": "cannot be read",
        "head.wav": "cannot be read",
        "head.caf": "cannot be read",
        "head.rf64": "cannot be read",
        "folder.wav": "cannot be read",
        "missing.wav": "cannot be read",
        "nul\0.wav": "cannot be read",
        "lone\ud800.wav": "cannot be read",
        "rate.wav": "impossible sampling rate; it says 1999999999",
        "loud.wav": "not finite",
        "pcm.wav": "holds samples up to 1.6",
        "sides.wav": "sides that cancel each other",
    }
    for name, reason in reasons.items():
        with pytest.raises(UnusableAudio, match=reason) as caught:
            read_audio(str(tmp_path / name), RATE, 1)
        assert "\n" not in str(caught.value) and len(str(caught.value)) <= 300
    with pytest.raises(InputError, match="cannot be read"):
        read_comment(str(tmp_path / "pipe.wav"))


def test_comments_of_files_without_a_length(tmp_path):
    path = tmp_path / "a.flac"
    write_audio(str(path), tone(1).T, RATE, comment="calm piano")
    path.write_bytes(without_length(bytearray(path.read_bytes())))
    assert read_comment(str(path)) == "calm piano"
