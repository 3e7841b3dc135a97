"""Files appear whole or not at all, under any legal name, beside other writers; what cannot be is said before."""

import contextlib
import os
import resource
import threading

import numpy as np
import pytest
import soundfile

from mindmusicgen import InputError
from mindmusicgen.audio import check_output, write_audio
from mindmusicgen.codes_file import check_codes_path, load_codes, save_codes
from mindmusicgen.display import Picture, check_picture, save_picture
from mindmusicgen.runtime import files

NOISE = 0.1 * np.random.default_rng(0).standard_normal((1, 8000)).astype(np.float32)
WRITERS = {
    ".wav": lambda path: write_audio(path, NOISE, 8000),
    ".flac": lambda path: write_audio(path, NOISE, 8000),
    ".ogg": lambda path: write_audio(path, NOISE, 8000),
    ".npz": lambda path: save_codes(path, np.ones((1, 4, 9), int), 32000, 50),
    ".png": lambda path: save_picture(Picture(), path),
}
CHECKS = {".npz": check_codes_path, ".png": check_picture}


@contextlib.contextmanager
def largest_file(size):
    """No file may grow beyond `size` bytes: a disk that is full after so much."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize("stem", ["a" * 251, "a" * 244, "水" * 83, "not-utf-8-\udcff", "-", "with\nbreak"])
def test_every_legal_name_works(tmp_path, ending, stem):
    path = str(tmp_path / stem[: 255 - len(ending)]) + ending
    CHECKS.get(ending, check_output)(path)
    WRITERS[ending](path)
    assert os.listdir(tmp_path) == [os.path.basename(path)] and os.path.getsize(path) > 0


@pytest.mark.parametrize("ending", WRITERS)
def test_what_cannot_be_written_is_one_sentence_before_there_is_anything_to_write(tmp_path, ending, monkeypatch):
    check = CHECKS.get(ending, check_output)
    (tmp_path / f"folder{ending}").mkdir()
    (tmp_path / "file").write_text("")
    cases = {
        "a" * (256 - len(ending)): "File name too long",
        "水" * 90: "File name too long",
        "a\0b": "zero byte",
        "folder": "it is a folder",
        "no/a": "does not exist",
        "file/a": "does not exist",
        "a" * 250 + "/" + "b" * 250: "does not exist",
    }
    for stem, words in cases.items():
        with pytest.raises(InputError, match=words) as refused:
            check(str(tmp_path / stem) + ending)
        assert len(str(refused.value)) <= 300 and "\n" not in str(refused.value)
    with largest_file(100), pytest.raises(InputError, match="File too large"):
        check(str(tmp_path / "a") + ending)
    monkeypatch.chdir(tmp_path)
    gone = tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    with pytest.raises(InputError, match="No such file"):
        check("a" + ending)
    os.chdir(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["file", f"folder{ending}"]


def test_room_is_looked_for(tmp_path, monkeypatch):
    path = str(tmp_path / "a.wav")
    check_output(path, room=10_000_000)
    with largest_file(1_000_000), pytest.raises(InputError, match="needs 10 MB and ulimit -f allows 1"):
        check_output(path, room=10_000_000)
    usage = files.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: usage._replace(free=2_000_000))
    with pytest.raises(InputError, match="needs 10 MB and '.*' has 2 left; make room"):
        check_output(path, room=10_000_000)
    check_output(path, room=1_000_000)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("ending", WRITERS)
def test_a_disk_that_fills_up_leaves_what_was_there(tmp_path, ending):
    """libsndfile reports nothing when the last page of a .flac or .ogg does not fit."""
    path = str(tmp_path / "a") + ending
    WRITERS[ending](path)
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        before = file.read()
    for limit in (size - 1, size // 2, 20):
        if limit >= files.BLOCK or ending != ".npz":
            with largest_file(limit), pytest.raises(InputError, match="cannot be written"):
                WRITERS[ending](path)
        with open(path, "rb") as file:
            assert file.read() == before and os.listdir(tmp_path) == [f"a{ending}"]


def test_two_writers_of_one_path_do_not_meet(tmp_path):
    path, together, failed = str(tmp_path / "a.npz"), threading.Barrier(8), []

    def write(number):
        together.wait()
        try:
            for _ in range(20):
                save_codes(path, np.full((1, 4, 500 + number), number), 32000, 50)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    codes = load_codes(path)
    assert not failed and codes.shape == (1, 4, 500 + codes[0, 0, 0]) and os.listdir(tmp_path) == ["a.npz"]


@pytest.mark.parametrize("name", ["a.wav.partial", ".partial-a", ".a.wav", ".mindmusicgen-mine.partial"])
def test_files_of_the_user_stay(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with files.whole_file(tmp_path / "a.wav") as partial, open(partial, "w") as file:
        file.write("ours")
    files.remove_leftovers(tmp_path)
    assert (tmp_path / name).read_text() == "mine" and (tmp_path / "a.wav").read_text() == "ours"


def test_links_are_not_followed(tmp_path, monkeypatch):
    (tmp_path / "precious").write_text("precious")
    monkeypatch.setattr(files.secrets, "token_hex", lambda count: "0" * 2 * count)
    (tmp_path / f".mindmusicgen-{'0' * 16}.partial").symlink_to(tmp_path / "precious")
    with pytest.raises(FileExistsError), files.whole_file(tmp_path / "a.wav"):
        pass
    with pytest.raises(InputError, match="File exists"):
        check_output(str(tmp_path / "a.wav"))
    files.remove_leftovers(tmp_path)
    assert (tmp_path / "precious").read_text() == "precious"


def test_leftovers_of_killed_writers_go_and_those_of_living_ones_stay(tmp_path):
    left = tmp_path / f".mindmusicgen-{'0' * 16}.partial"
    left.write_text("half")
    with files.whole_file(tmp_path / "a") as partial:
        files.remove_leftovers(tmp_path)
        assert os.listdir(tmp_path) == [os.path.basename(partial)]
    assert os.listdir(tmp_path) == ["a"]


def test_modes_are_those_of_other_files(tmp_path):
    before = os.umask(0o027)
    try:
        write_audio(str(tmp_path / "a.wav"), NOISE, 8000)
    finally:
        os.umask(before)
    assert (tmp_path / "a.wav").stat().st_mode & 0o777 == 0o640 and soundfile.info(tmp_path / "a.wav").frames == 8000
