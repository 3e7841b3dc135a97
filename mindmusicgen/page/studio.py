"""Where the page's pieces are made: one thread that computes, the models that it keeps open, and sound while it comes.

Nothing here knows of Gradio. MindSpore's runtime serves one caller at a time (`runtime/callers.py`), so all models
share one queue: it is this thread's.
"""

import contextlib
import queue
import secrets
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace

import numpy as np

from ..audio import as_pcm
from ..auto import part_of_family
from ..checkpoint.source import SHIPPED, resolve
from ..commands import rank
from ..commands.flags import SCHEDULERS
from ..commands.generate import check_generate
from ..errors import InputError, shown
from ..sound.samples import LONGEST, check_length

KEPT = 2  # models that stay open; the one that was used last but so many is closed


@dataclass(frozen=True)
class Limits:
    """What visitors may ask for.

    Attributes:
        duration (float): seconds of new music in a piece, at most.
        upload (int): megabytes of a file that is sent, at most.
        models (tuple[str]): which models there are; the first is shown first.
        any_model (bool): whether visitors may name others, folders of this machine included.
        scorer (str): what judges candidates, where a model has no judge of its own.
    """

    duration: float = 120.0
    upload: int = 50
    models: tuple = tuple(SHIPPED)
    any_model: bool = False
    scorer: str | None = None

    def check(self, job):
        """Refuse a job that asks for too much.

        Raises:
            InputError: naming the limit.
        """
        if job.duration is not None and not job.duration <= self.duration:
            raise InputError(f"duration is {job.duration:g} s; this page makes at most {self.duration:g} s at once")
        if job.candidates is not None and not job.candidates <= 8:
            raise InputError(f"candidates is {job.candidates}; this page makes at most 8 of a piece")
        if job.scheduler not in (None, *SCHEDULERS):
            raise InputError(f"scheduler is {shown(job.scheduler)}; expected one of {', '.join(SCHEDULERS)}")
        if job.model not in self.models and not self.any_model:
            raise InputError(f"model {shown(job.model)} is not one of this page: {', '.join(self.models)}")


@dataclass
class Sound:
    """What is heard of a piece while it is made: its 16 bit samples, second by second.

    Attributes:
        name (str): which nobody guesses, as it is all that is asked of a listener.
        rate, channels (int): of the samples; 0 before the first.
        chunks (list[bytes]): little-endian, the channels of a sample beside each other.
        ended (bool): nothing follows.
    """

    name: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    rate: int = 0
    channels: int = 0
    chunks: list = field(default_factory=list)
    ended: bool = False

    def add(self, audio, rate):
        """Append samples, [channels, samples] floats."""
        self.rate, self.channels = rate, len(audio)
        self.chunks.append(as_pcm(audio))


@dataclass(frozen=True)
class Progress:
    """How far a piece is: seconds (or steps) done, of how many, and in which unit ("s", or "")."""

    done: float
    of: float
    unit: str


@dataclass(frozen=True)
class Made:
    """A piece: audio [channels, samples], codes [K, frames] or None, rates, seed, recipe, and what it took."""

    audio: np.ndarray
    rate: int
    codes: np.ndarray | None
    frame_rate: float
    seed: int
    recipe: dict
    taken: float
    stopped: bool


class Studio:
    """Makes pieces, one after the other.

    Args:
        limits (Limits): what visitors may ask for.
        source (dict): revision, cache_dir and local_files_only, for models of the hub.
    """

    def __init__(self, limits=None, source=None):
        self.limits, self.source = limits or Limits(), source or {}
        self.worker = ThreadPoolExecutor(1, thread_name_prefix="studio")
        self.models, self.running, self.closed = {}, set(), False
        for folder in SHIPPED.values():  # now: transformers cannot be imported by two threads at the same time
            part_of_family(folder, "command")

    def family_of(self, model):
        """What the family of a model does with a job, and the model's folder.

        Raises:
            InputError: if there is no such model, or none that makes pieces.
        """
        folder = resolve(model, **self.source)
        return part_of_family(folder, "command"), folder

    def check(self, job):
        """Refuse what can be refused before anybody waits for it.

        Raises:
            InputError: in one sentence.
        """
        self.limits.check(job)
        check_generate(job)
        for path in (*(job.audio or ()), *(job.melody or ())):
            check_recording(path)

    def make(self, job, stopped, sound=None):
        """Make a piece; a generator, which may be closed at any time: then the piece is stopped and waited for.

        Args:
            job (Job): one piece, whose output is a name for a file that nothing else has.
            stopped (threading.Event): set to stop, with what is there.
            sound (Sound): is given what can be heard, if the model makes it piece by piece.

        Yields:
            Progress.

        Returns:
            Made

        Raises:
            InputError: in one sentence.
        """
        events = queue.SimpleQueue()
        self.running.add(stopped)
        future = self.worker.submit(self._work, job, stopped, sound, events.put)
        future.add_done_callback(lambda _: events.put(None))
        try:
            while (event := events.get()) is not None:
                yield event
            return future.result()
        finally:
            stopped.set()
            future.cancel()
            wait([future])
            self.running.discard(stopped)
            if job.song:
                shutil.rmtree(job.run_folder, ignore_errors=True)  # which nobody will go on with
            if sound is not None:
                sound.ended = True

    def _work(self, job, stopped, sound, tell):
        """What the one thread does for a piece."""
        if stopped.is_set() or self.closed:
            raise InputError("stopped before the piece was begun; nothing was made")
        begun, see = time.perf_counter(), Watch(stopped, tell)
        family, folder = self.family_of(job.model)
        judge = rank.open_judge(job, family, folder)
        copies = job.copies * job.candidates
        work = family.prepare(replace(job, copies=copies), folder, lambda opened: self._kept(job, folder, opened))
        model = work.model
        frame_rate = getattr(model, "frame_rate", 0)
        with family.memory_for(job, work):
            if hasattr(work, "stream") and copies == 1:
                see.unit, see.rate = "s", frame_rate
                audio, (codes, seed) = heard(work.stream(see), sound, model.sampling_rate)
            else:
                made = self._whole(work, see)
                if judge is not None:
                    made = rank.best_of(job, judge, made, model.sampling_rate)
                ((audio, codes, seed),) = made
        if not audio.shape[1]:
            raise InputError("stopped before anything could be heard; nothing was made")
        recipe = family.recipe(job, work, 0, int(seed))
        taken = time.perf_counter() - begun
        return Made(audio, model.sampling_rate, codes, frame_rate, int(seed), recipe, taken, see.refused)

    def _whole(self, work, see):
        """The pieces of a model that makes them as a whole."""
        try:
            return work.make(see)
        except InputError as error:
            if see.refused:  # too early for what was asked of the codes that there are
                raise InputError("stopped before anything could be heard; nothing was made") from error
            raise

    def _kept(self, job, folder, opened):
        """The model of a job: opened, unless it is open already. What is kept too long goes first: two large models
        beside each other may be more than there is."""
        key = (str(folder), job.dtype, job.quantization)
        model = self.models.pop(key, None)
        if model is None:
            while len(self.models) >= KEPT:
                self.models.pop(next(iter(self.models)))
            model = opened()
        self.models[key] = model
        return model

    def warm(self, job):
        """Open a model and compile its graphs before anybody waits for them; returns at once."""

        def work():
            with contextlib.suppress(InputError):  # whoever chooses that model is told
                for step in self.make(job, stopped):
                    if step.done * 10 > step.of:
                        stopped.set()

        stopped = threading.Event()
        threading.Thread(target=work, daemon=True).start()

    def close(self):
        """End the running pieces, and wait for them."""
        self.closed = True
        for stopped in list(self.running):
            stopped.set()
        self.worker.shutdown(wait=True, cancel_futures=True)


class Watch:
    """Is called by whoever makes a piece, says how far it is, and whether to go on."""

    def __init__(self, stopped, tell):
        self.stopped, self.tell, self.refused, self.unit, self.rate = stopped, tell, False, "", 1

    def __call__(self, done, of):
        self.refused = self.refused or self.stopped.is_set()
        self.tell(Progress(done / self.rate, of / self.rate, self.unit))
        return not self.refused


def heard(stream, sound, rate):
    """All of a stream's audio, [channels, samples], and what it returns; a `Sound` is given it as it comes."""
    chunks = []
    while True:
        try:
            chunks.append(next(stream))
        except StopIteration as end:
            return np.concatenate(chunks, axis=1) if chunks else np.zeros((1, 0), np.float32), end.value
        if sound is not None:
            sound.add(chunks[-1], rate)


def check_recording(path):
    """Read a recording from its beginning to its end: whether it is one, and how long.

    Returns:
        float: seconds.

    Raises:
        InputError: if it cannot be read, is damaged or too long.
    """
    from ..audio import read_blocks
    from ..sound.sound_file import SoundFile

    file, seconds = SoundFile(path), 0.0
    if np.isfinite(file.seconds):
        check_length(file.name, file.seconds, LONGEST)
    for block in read_blocks(file, file.rate, 1):
        seconds += block.shape[1] / file.rate
        check_length(file.name, seconds, LONGEST)
    return seconds
