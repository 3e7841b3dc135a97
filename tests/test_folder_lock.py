"""One run in a folder: who is refused, what a kill leaves behind, and that nothing is left to be in the way."""

import contextlib
import fcntl
import os
import signal
import threading

import pytest

from mindmusicgen import InputError
from mindmusicgen.runtime import folder_lock
from mindmusicgen.runtime.folder_lock import NAME, alone_in


@contextlib.contextmanager
def another_process(folder, shared=False):
    """A process that works in a folder; yields its number."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with alone_in(str(folder), shared=shared):
            os.write(writer, b"in")
            signal.pause()
    assert os.read(reader, 2) == b"in"
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        os.close(reader), os.close(writer)


def refused(folder, **how):
    with pytest.raises(InputError, match="another run works on") as caught, alone_in(str(folder), **how):
        raise AssertionError("two are in")
    assert "wait for it, or give another folder" in str(caught.value)


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path):
    with another_process(tmp_path) as child:
        refused(tmp_path)
        refused(f"{tmp_path}/.")  # by whatever name
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert os.listdir(tmp_path) == [NAME], "the killed one removes nothing"
        with alone_in(str(tmp_path)):
            pass
    assert os.listdir(tmp_path) == []


def test_a_second_thread_is_refused_and_the_same_one_enters_again(tmp_path):
    found = []

    def enter():
        try:
            with alone_in(str(tmp_path)):
                found.append("in")
        except InputError as error:
            found.append(str(error))

    with alone_in(str(tmp_path)), alone_in(str(tmp_path)):
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
    enter()
    assert "another run works on" in found[0] and found[1] == "in"


def test_ranks_share_a_folder_and_keep_others_out(tmp_path):
    with another_process(tmp_path, shared=True):
        with alone_in(str(tmp_path), shared=True):
            pass
        assert os.listdir(tmp_path) == [NAME], "the other rank still works"
        refused(tmp_path)
    with alone_in(str(tmp_path), shared=True):
        pass
    assert os.listdir(tmp_path) == []


def test_a_lock_whose_file_went_meanwhile_is_none(tmp_path, monkeypatch):
    """Between opening and locking, its owner may remove the file: then two would be in, each with a file of its own."""
    flock, once = fcntl.flock, []

    def removed_first(handle, how):
        if not once:
            once.append(os.remove(tmp_path / NAME))
        return flock(handle, how)

    monkeypatch.setattr(folder_lock.fcntl, "flock", removed_first)
    with alone_in(str(tmp_path)):
        assert os.listdir(tmp_path) == [NAME]
    assert os.listdir(tmp_path) == []


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def unsupported(handle, how):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(folder_lock.fcntl, "flock", unsupported)
    with alone_in(str(tmp_path / "new")):
        assert (tmp_path / "new").is_dir()
    assert os.listdir(tmp_path / "new") == []


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="cannot be used"), alone_in(str(tmp_path / "out")):
        pass
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_what_is_no_folder(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be used"), alone_in(str(tmp_path / name)):
        pass
