"""Songs of `generate`: hours of work, kept in the folder of a run, gone on with, and carried from level to level."""

import itertools
import os
from dataclasses import replace

from ..errors import InputError
from ..runtime.telling import quoted
from ..sound.recipe import RUN, run_of
from .outputs import output_paths


def add_song(group):
    """The words of songs."""
    group.add_argument("--artist", metavar="NAME", help="who sings; info MODEL --artist PART finds names")
    group.add_argument("--genre", metavar="WORDS", help="such as 'Country Rock'")
    group.add_argument("--lyrics", metavar="TEXT", help="the words, or a .txt file that holds them")
    group.add_argument(
        "--total-length", type=float, metavar="SECONDS", help="of the whole song, if the piece is a part of it"
    )
    group.add_argument("--offset", type=float, metavar="SECONDS", help="of the song before the piece (0)")
    group.add_argument(
        "--levels", type=int, metavar="N", help="levels to make (all); 1: the coarsest alone, a preview in less time"
    )
    group.add_argument("--batch-size", type=int, metavar="N", help="copies at once (16)")
    group.add_argument(
        "--resume", action="store_true", help="go on with the run in the folder of --output, bit for bit"
    )
    group.add_argument(
        "--upsample", metavar="RUN", help="make the finer levels of a run's folder, or of codes in an .npz file"
    )
    group.add_argument(
        "--keep",
        type=numbers,
        metavar="NUMBERS",
        help="with --upsample: of these samples alone: 0,2 for sample_0.wav and sample_2.wav",
    )


def numbers(text):
    """Whole numbers with commas between them."""
    return [int(part) for part in text.split(",")]


def lyrics(word):
    """The words to be sung: what stands in a .txt file, or the word itself.

    Raises:
        InputError: if that file cannot be read.
    """
    if not word.endswith(".txt") or "\n" in word:
        return word
    try:
        with open(word, encoding="utf-8-sig") as file:
            return file.read()
    except OSError as error:
        raise InputError(f"the lyrics {quoted(word)} cannot be read: {error.strerror}; expected a text file") from error
    except ValueError as error:  # a zero byte in its name, too
        raise InputError(f"the lyrics {quoted(word)} are not UTF-8 text; save the file as UTF-8") from error


def recipe_source(job):
    """The file or folder whose recipe says what the command does not; None without one.

    Raises:
        InputError: if there are two, or there is no run to go on with.
    """
    run = job.upsample if job.upsample is not None and os.path.isdir(job.upsample) else None
    if sum((job.like is not None, job.resume, job.upsample is not None)) > 1:
        raise InputError("--like, --resume and --upsample each say what the song is; give one of them")
    if (job.resume or job.upsample is not None) and (job.duration is not None or job.audio):
        raise InputError("what is gone on with has its length and its beginning; leave --duration and --audio out")
    if job.resume and run_of(job.run_folder) is None:
        raise InputError(
            f"{quoted(job.run_folder)} holds no run to go on with; expected the --output of one that was begun"
        )
    return job.run_folder if job.resume else run or job.like


def run_recipe(folder):
    """The recipe of the run in a folder, a dict.

    Raises:
        InputError: if there is no run, or one that was begun from Python, without a recipe.
    """
    run = run_of(folder)
    found = (run or {}).get("recipe")
    if run is not None and not isinstance(found, dict):
        raise InputError(f"the run in {quoted(folder)} was not begun by this command; go on with it from Python")
    return found or {}


def kept(chosen, count):
    """Numbers of samples that are to be kept, checked.

    Raises:
        InputError: if there are no such samples.
    """
    if any(not 0 <= number < count for number in chosen) or len(set(chosen)) < len(chosen):
        raise InputError(f"--keep is {','.join(map(str, chosen))}; expected different numbers from 0 to {count - 1}")
    return chosen


def begun_song(job):
    """The job with a number of copies, where codes say it, and an output that is free.

    Raises:
        InputError: if codes cannot be read, or an unfinished run is in the way.
    """
    if job.output == "-":
        raise InputError("a song is made level by level, which is no stream; use --output FOLDER")
    job = replace(job, output=job.output.rstrip("/") or job.output)
    if job.keep is not None and job.upsample is None:
        raise InputError("--keep chooses among the samples of --upsample; give a run's folder, or codes, with it")
    if job.upsample is not None and not job.resume and not os.path.isdir(job.upsample):
        from ..codes_file import load_codes

        count = len(load_codes(job.upsample))
        job = replace(job, copies=count if job.keep is None else len(kept(job.keep, count)))
    return job if job.resume or job.force else _free(job)


def _free(job):
    """The job with an output that no other run and no file has."""
    stem, ending = os.path.splitext(job.output)
    for number in itertools.count(1):
        made = replace(job, output=job.output if number == 1 else f"{stem}-{number}{ending}")
        run = run_of(made.run_folder)
        if run is not None and number == 1 and not run.get("finished"):
            raise InputError(
                f"{quoted(made.run_folder)} holds a run that has not ended; --resume goes on with it; or give another "
                "--output"
            )
        taken = (os.path.join(made.run_folder, RUN), *output_paths(made.file, job.pieces))
        if not any(map(os.path.lexists, taken)):
            return made
