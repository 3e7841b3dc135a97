"""Make the pieces of a plan batch by batch. What is there stays, what fails is written down, and the rest goes on."""

import contextlib
import glob
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from ..audio import write_audio
from ..errors import InputError
from ..language import said
from ..runtime.files import whole_file
from ..runtime.telling import tell
from ..sound.recipe import recipe_comment

FAILURES = "failures"  # name of the file that lists them


@dataclass
class Writer:
    """Writes clips, says so, and remembers what failed.

    Attributes:
        sampling_rate (int): samples per second of the clips.
        normalize (str), bit_depth (int): see `write_audio`.
        failures (str): the file that lists what failed; removed when there is nothing to list.
        wanted (frozenset[str]): paths of the pieces that are to be made. Others came along in their batches, so that
            a batch is always computed alike, whatever of it was there already.
    """

    sampling_rate: int
    normalize: str
    bit_depth: int | None
    failures: str
    wanted: frozenset = frozenset()
    made: int = 0
    failed: list = field(default_factory=list)

    def write(self, piece, clip):
        """A piece is done."""
        if piece.path not in self.wanted:
            return
        try:
            comment = recipe_comment(piece.recipe)
            write_audio(piece.path, clip, self.sampling_rate, self.normalize, self.bit_depth, comment)
        except (OSError, InputError) as error:
            self.fail(piece, reason_of(error))
            return
        self.made += 1
        tell(f"{piece.path}: {clip.shape[1] / self.sampling_rate:.2f} s{said(f', seed {piece.prompt.seed}')}")

    def fail(self, piece, reason):
        """A piece could not be made."""
        if piece.path not in self.wanted:
            return
        self.failed.append({"id": piece.prompt.id, "line": piece.prompt.line, "error": reason})
        tell(said(f"{piece.path}: failed: {reason}"))
        self.list_failures()

    def list_failures(self):
        """Bring the list in the folder up to date."""
        if not self.failed:
            with contextlib.suppress(FileNotFoundError):
                os.remove(self.failures)
            return
        # A list that cannot be written is no reason to stop; every failure was shown as well.
        lines = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in self.failed)
        with contextlib.suppress(OSError), whole_file(self.failures) as partial:
            Path(partial).write_text(lines, encoding="utf-8")


def make_all(maker, batches, writer, interrupts):
    """Make pieces here, in this process.

    Args:
        maker (Maker): the model.
        batches (list[list[Piece]]): from `pieces.batches`.
        writer (Writer): takes what is made and what fails.
        interrupts (Interrupts): asked between batches.
    """
    for batch in batches:
        for made in attempts(maker.clips, batch):
            interrupts.check()
            deliver(writer, *made)


def attempts(clips, batch):
    """Try a batch, and where it fails each of its pieces alone, so that one cannot spoil the others.

    Args:
        clips (callable): from prompts to clips.
        batch (list[Piece]): pieces of one group.

    Yields:
        (pieces, clips, None), or ([piece], None, reason).
    """
    try:
        yield batch, clips([piece.prompt for piece in batch]), None
    except Exception as error:  # MindSpore raises RuntimeError, ValueError, TypeError for the same things
        if len(batch) == 1:
            yield batch, None, reason_of(error)
            return
        for piece in batch:
            yield from attempts(clips, [piece])


def reason_of(error):
    """An exception in one line."""
    said = str(error).strip().partition("\n")[0]
    return said if isinstance(error, InputError) else f"{type(error).__name__}: {said}"


def deliver(writer, pieces, clips, reason):
    """Hand what `attempts` yielded to a writer."""
    for number, piece in enumerate(pieces):
        if reason is None:
            writer.write(piece, clips[number])
        else:
            writer.fail(piece, reason)


def failures_file(folder, rank, size):
    """Where failures are listed; what other numbers of processes left behind is removed."""
    if size == 1:
        for path in glob.glob(os.path.join(glob.escape(folder), f"{FAILURES}-*.jsonl")):
            os.remove(path)
        return os.path.join(folder, f"{FAILURES}.jsonl")
    return os.path.join(folder, f"{FAILURES}-{rank}.jsonl")
