"""A run on disk: what it was asked for, the codes after every window, and what each level sounds like.

A run that was interrupted, however hard, goes on from its last window with the numbers it would have had.
"""

import hashlib
import json
import os

import numpy as np

from ..audio import write_audio
from ..checkpoint.json_file import read_json
from ..errors import InputError, clip, shown
from ..runtime.files import check_folder, whole_file
from ..runtime.telling import quoted

RUN, CODES = "run.json", "codes.npy"
SAMPLE = "sample_{}.wav"


def digest(*arrays):
    """Sixteen hex digits of arrays, their shapes included."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(repr((array.shape, str(array.dtype))).encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def facts_of(request, model):
    """What decides the codes of a run, as JSON holds it.

    Args:
        request (settings.Request): of the call.
        model (str): a digest of the model.
    """
    labels = [digest(one.artist, one.genres, *one.lyrics) for one in request.labels]
    return {
        "model": model,
        "labels": labels,
        "given_codes": digest(*request.codes),
        "levels": list(request.levels),
        "codes": list(map(int, request.wanted)),
        "total_length": request.total_length,
        "offset": request.offset,
        "hops": list(request.hops),
        "temperatures": list(request.temperatures),
        "top_k": request.top_k,
        "top_p": request.top_p,
        "seeds": list(map(int, request.seeds)),
    }


class RunFolder:
    """The folder of one run.

    Args:
        folder (str): made if it is not there.
        facts (dict): from `facts_of`.
        end (int): how many codes there are.
        size (int): bytes that the run will take.
        resume (bool): go on with the run that lies there, if one does.

    Raises:
        InputError: if it cannot be written, holds an unfinished run and is not to be resumed, or one of another model
            or other settings.
    """

    def __init__(self, folder, facts, end, size, resume=False):
        if not isinstance(folder, (str, os.PathLike)):
            raise InputError(f"output_dir is {shown(folder)}; expected a folder's path")
        self.folder, self.facts, self.end = os.fspath(folder), facts, end
        check_folder(self.folder, "output", size)
        found = stored_facts(self.folder)
        self.resumed = bool(resume and found)
        if found and resume:
            for name, value in facts.items():
                if found.get(name) != value:
                    raise InputError(
                        f"{quoted(self.folder)} holds a run with another {name}; resume it with what it was begun "
                        "with, or give another folder"
                    )
        elif found and not found.get("finished"):
            raise InputError(
                f"{quoted(self.folder)} holds a run that has not ended; resume=True goes on with it, or give "
                "another folder"
            )
        os.makedirs(self.folder, exist_ok=True)
        if not self.resumed:
            for level in facts["levels"]:  # first: killed in between, a run must not find another's codes
                path = self._file(level, CODES)
                if os.path.exists(path):
                    os.remove(path)
            self._write(False)

    def _write(self, finished):
        text = json.dumps(self.facts | {"finished": finished}, indent=1)
        self._save(os.path.join(self.folder, RUN), lambda file: file.write(text.encode()))

    def _save(self, path, write):
        """Write a file whole; `write` is given it open.

        Raises:
            InputError: if that fails, such as on a full disk.
        """
        try:
            with whole_file(path) as partial, open(partial, "wb") as file:
                write(file)
        except OSError as error:
            raise InputError(
                f"{path} cannot be written ({error.strerror}); make room, and resume=True goes on"
            ) from error

    def _file(self, level, name):
        return os.path.join(self.folder, f"level_{level}", name)

    def codes(self, level, given):
        """The codes of a level so far, if the run is resumed and has begun it; else what was given.

        Args:
            level (int): the prior's number.
            given (numpy.ndarray): [samples, n] int32.

        Raises:
            InputError: if the file is damaged.
        """
        path = self._file(level, CODES)
        if not self.resumed or not os.path.exists(path):
            return given
        try:
            found = np.load(path, allow_pickle=False)
        except Exception as error:  # a damaged file can raise nearly anything
            raise InputError(f"{path} cannot be read ({clip(error, 80)}); delete it to make its level again") from error
        shape, most = (len(given), given.shape[1]), self.facts["codes"][level]
        sound = isinstance(found, np.ndarray) and found.ndim == 2 and found.dtype == np.int32 and len(found) == shape[0]
        sound = sound and (not found.size or 0 <= found.min() <= found.max() < self.end)
        if not sound or not shape[1] <= found.shape[1] <= most or not np.array_equal(found[:, : shape[1]], given):
            raise InputError(f"{path} holds {shown(found)}, not this run's codes; delete it to make its level again")
        return found

    def keep(self, level, codes):
        """Write the codes of a level so far, [samples, n] int32."""
        path = self._file(level, CODES)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self._save(path, lambda file: np.save(file, codes))

    def sound(self, level, audio, rate):
        """Write what a level sounds like: sample_0.wav, sample_1.wav, ... of [samples, n] float32."""
        for i, row in enumerate(audio):
            path = self._file(level, SAMPLE.format(i))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            write_audio(path, np.clip(row, -1, 1), rate)

    def finish(self):
        """Say that the run has ended."""
        self._write(True)


def stored_facts(folder):
    """What run.json of a folder says, or None without one."""
    path = os.path.join(folder, RUN)
    return read_json(path) if os.path.exists(path) else None
