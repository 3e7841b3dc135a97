"""A run on disk: what it was asked for, the codes after every window, and what each level sounds like.

A run that was interrupted, however hard, goes on from its last window with the numbers it would have had. One that made
the top level alone goes on with the others.
"""

import glob
import hashlib
import json
import os

import numpy as np

from ..audio import write_audio
from ..errors import InputError, clip, shown
from ..runtime.files import check_folder, whole_file
from ..runtime.telling import quoted
from ..sound.recipe import RUN, bare_name, recipe_comment, run_of

CODES, GIVEN, ALIGNMENTS = "codes.npy", "given.npz", "lyric_alignments.npz"
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
        given (list[numpy.ndarray]): the codes that the run begins with, [samples, n] of each level; n may be 0.
        end (int): how many codes there are.
        size (int): bytes that the run will take.
        resume (bool): go on with the run that lies there, if one does.
        recipe (dict): kept in run.json, and in the sounds.

    Raises:
        InputError: if it cannot be written, holds an unfinished run and is not to be resumed, or one of another model
            or other settings.
    """

    def __init__(self, folder, facts, given, end, size, resume=False, recipe=None):
        if not isinstance(folder, (str, os.PathLike)):
            raise InputError(f"output_dir is {shown(folder)}; expected a folder's path")
        self.folder, self.facts, self.end, self.recipe = os.fspath(folder), facts, end, recipe
        check_folder(self.folder, "output", max(size - bytes_in(self.folder), 0) if resume else size)
        found = run_of(self.folder)
        self.resumed = bool(resume and found)
        if self.resumed:
            self.recipe = found.get("recipe", recipe)
        if found and resume:
            for name, value in facts.items():
                if found.get(name) != value:
                    raise InputError(
                        f"{quoted(self.folder)} holds a run with another {name}; resume it with what it was begun "
                        "with, or give another folder"
                    )
        elif found and not found.get("finished"):
            raise in_the_way(self.folder)
        os.makedirs(self.folder, exist_ok=True)
        if not self.resumed:
            self._begin(given)
        self._write(False)

    def _begin(self, given):
        """Make room: killed in between, a run must not find another's codes."""
        old = [self._file("*", name) for name in (CODES, SAMPLE.format("*"))]
        old += [os.path.join(self.folder, name) for name in (GIVEN, ALIGNMENTS)]
        root = glob.escape(self.folder)
        for pattern in old:
            for path in glob.glob(root + pattern[len(self.folder) :]):
                os.remove(path)
        if any(one.size for one in given):
            self._save(os.path.join(self.folder, GIVEN), lambda file: np.savez(file, *given))

    def _write(self, finished):
        made = self.facts | {"finished": finished} | ({"recipe": self.recipe} if self.recipe else {})
        text = json.dumps(made, indent=1)
        self._save(os.path.join(self.folder, RUN), lambda file: file.write(text.encode()))

    def _save(self, path, write):
        """Write a file whole; `write` is given it open.

        Raises:
            InputError: if that fails, such as on a full disk.
        """
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with whole_file(path) as partial, open(partial, "wb") as file:
                write(file)
        except OSError as error:
            raise InputError(
                f"{path} cannot be written ({error.strerror}); make room, and resume=True, or --resume, goes on"
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
            found = _read(path)
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

        def write(file):
            np.save(file, codes)
            file.write(digest(codes).encode())  # behind the array, where NumPy does not look

        self._save(self._file(level, CODES), write)

    def heard(self, level):
        """Whether the sounds of a level, which is complete, are there already."""
        return self.resumed and all(
            os.path.exists(self._file(level, SAMPLE.format(i))) for i in range(len(self.facts["seeds"]))
        )

    def sound(self, level, audio, rate):
        """Write what a level sounds like: sample_0.wav, sample_1.wav, ... of [samples, n] float32."""
        for i, (row, seed) in enumerate(zip(audio, self.facts["seeds"], strict=True)):
            comment = recipe_comment(piece_recipe(self.recipe, seed)) if self.recipe else None
            write_audio(self._file(level, SAMPLE.format(i)), np.clip(row, -1, 1), rate, comment=comment)

    def keep_alignments(self, found):
        """Write which characters each code of the top level goes with: sample_0, sample_1, ... in one file."""
        arrays = {f"sample_{i}": one for i, one in enumerate(found)}
        self._save(os.path.join(self.folder, ALIGNMENTS), lambda file: np.savez_compressed(file, **arrays))

    def finish(self):
        """Say that the run has ended."""
        self._write(True)


def bytes_of(request):
    """About how many bytes a run takes: codes, and the sound of each level."""
    return len(request.seeds) * (4 * sum(request.wanted) + 2 * request.length * len(request.levels))


def bytes_in(folder):
    """How many bytes the levels of a run have already."""
    pattern = os.path.join(glob.escape(folder), "level_*", "*")
    return sum(os.path.getsize(path) for path in glob.glob(pattern))


def in_the_way(folder):
    """The InputError for a folder with a run that has not ended."""
    return InputError(
        f"{quoted(folder)} holds a run that has not ended; resume=True, or --resume, goes on with it; or give another "
        "folder"
    )


def piece_recipe(recipe, seed):
    """The recipe of one piece of a run: for its file, which may be shared, so that it names no folders."""
    shared = {name: value for name, value in recipe.items() if name != "copies"} | {"seed": seed}
    return shared | {"model": bare_name(shared["model"])} if "model" in shared else shared


def given_codes(folder, count):
    """The codes that a run began with, [samples, n] int32 of each level; None if it began with nothing.

    Raises:
        InputError: if the file is damaged.
    """
    path = os.path.join(folder, GIVEN)
    if not os.path.exists(path):
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            return [file[f"arr_{level}"] for level in range(count)]
    except Exception as error:  # zipfile, zlib and NumPy raise many kinds
        raise InputError(f"{path} cannot be read ({clip(error, 80)}); begin the run again") from error


def made_codes(folder, count):
    """The codes that a run has made so far, [samples, n] of each level, None for a level that it has not begun.

    Raises:
        InputError: if one cannot be read.
    """
    made = []
    for level in range(count):
        path = os.path.join(folder, f"level_{level}", CODES)
        try:
            made.append(_read(path) if os.path.exists(path) else None)
        except Exception as error:
            raise InputError(f"{path} cannot be read ({clip(error, 80)}); make the run again") from error
    return made


def _read(path):
    """The array in a file of `RunFolder.keep`, or in one that NumPy wrote, which has no digest behind it."""
    with open(path, "rb") as file:
        found = np.lib.format.read_array(file, allow_pickle=False)
        beside = file.read()
    if beside and beside != digest(found).encode():
        raise ValueError("its codes are not those that were written")
    return found
