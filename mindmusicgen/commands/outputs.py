"""Files that commands write: their names, which are never those of files that are there, and what is said of them."""

import contextlib
import itertools
import os

from ..errors import InputError
from ..language import said
from ..runtime.telling import tell


def output_paths(output, count, number=1):
    """One path per piece: out.wav, or out-1.wav, out-2.wav, ...

    Args:
        output (str): what was asked for.
        count (int): pieces.
        number (int): of the try: the second gives out-2.wav, or out-2.wav, out-3.wav, ...
    """
    stem, ending = os.path.splitext(output)
    if count == 1:
        return [output if number == 1 else f"{stem}-{number}{ending}"]
    return [f"{stem}-{number + i}{ending}" for i in range(count)]


def free_paths(wanted, force=False):
    """Paths of files that are not there yet, all with the same number.

    Args:
        wanted (list[tuple]): for each kind of file what was asked for, and how many.
        force (bool): as asked for, whatever is there.

    Returns:
        list[list[str]]
    """
    for number in itertools.count(1):
        found = [output_paths(path, count, number) for path, count in wanted]
        if force or not any(os.path.lexists(path) for paths in found for path in paths):
            return found


@contextlib.contextmanager
def each_anyway():
    """Context that gives a function to call others with; the first InputError of theirs is raised at its end."""
    refused = []

    def attempt(function, *arguments):
        try:
            function(*arguments)
        except InputError as error:
            refused.append(error)

    yield attempt
    if refused:
        raise refused[0]


def write_clip(arguments, path, clip, sampling_rate, more="", comment=None):
    """Write one clip and say so."""
    from ..audio import write_audio

    peak = write_audio(path, clip, sampling_rate, arguments.normalize or "none", arguments.bit_depth, comment)
    clipped = peak > 1 and arguments.bit_depth != 32
    loud = f", clipped: the peak was {peak:.2f}, and --normalize peak avoids it" if clipped else ""
    tell(f"{path}: {clip.shape[1] / sampling_rate:.2f} s{said(more)}{said(loud)}")
