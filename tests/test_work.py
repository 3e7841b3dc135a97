"""The work that a family makes of a job: heard while it is made, with a model that is kept, and stopped."""

import numpy as np
import pytest

from mindmusicgen.auto import part_of_family
from mindmusicgen.checkpoint.source import resolve
from mindmusicgen.commands.job import Job


class Kept:
    """The model that one family opened first."""

    def __init__(self):
        self.model, self.opened = None, 0

    def __call__(self, opened):
        if self.model is None:
            self.model = opened()
            self.opened += 1
        return self.model


@pytest.fixture(scope="module")
def kept():
    return {name: Kept() for name in ("demo", "digits", "beats")}


def work_of(kept, name, prompt, **words):
    folder = resolve(name)
    family = part_of_family(folder, "command")
    return family.prepare(Job([prompt], model=name, output="x.flac", **words), folder, kept[name])


def drained(stream):
    """What a generator yields, and what it returns."""
    chunks = []
    while True:
        try:
            chunks.append(next(stream))
        except StopIteration as end:
            return chunks, end.value


def test_a_stream_is_what_is_made_as_a_whole(kept):
    work = work_of(kept, "demo", "calm piano", duration=2.4, seed=5)
    chunks, (codes, seed) = drained(work.stream())
    ((audio, whole, whole_seed),) = work.make()
    assert (seed, whole_seed) == (5, 5) and np.array_equal(codes, whole)
    assert [chunk.shape[1] for chunk in chunks] == [32000, 32000, 12800]
    assert np.abs(np.concatenate(chunks, axis=1) - audio).max() < 1e-5


def test_a_stream_that_is_stopped_keeps_sound_and_codes_of_one_length(kept):
    work = work_of(kept, "demo", "calm piano", duration=8, seed=5)
    chunks, (codes, _) = drained(work.stream(lambda done, of: done < 60))
    samples = sum(chunk.shape[1] for chunk in chunks)
    assert 60 <= codes.shape[1] < 200 and samples == codes.shape[1] * 640
    whole, _ = drained(work_of(kept, "demo", "calm piano", duration=8, seed=5).stream())
    joined = np.concatenate(whole, axis=1)[:, :32000]
    assert np.abs(np.concatenate(chunks, axis=1)[:, :32000] - joined).max() < 1e-5


def test_a_stream_without_a_seed_says_which_it_drew(kept):
    work = work_of(kept, "demo", "calm piano", duration=0.4)
    chunks, (codes, seed) = drained(work.stream())
    ((_, again, _),) = work_of(kept, "demo", "calm piano", duration=0.4, seed=seed).make()
    assert np.array_equal(codes, again)


@pytest.mark.parametrize("name, prompt, words", [("beats", "techno", {"steps": 4}), ("digits", "one two", {})])
def test_what_is_made_as_a_whole_says_how_far_it_is_and_stops(kept, name, prompt, words):
    seen = []

    def see(done, of):
        seen.append((done, of))
        return len(seen) < 2

    ((audio, _, seed),) = work_of(kept, name, prompt, seed=3, **words).make(see)
    assert seed == 3 and audio.ndim == 2 and 2 <= len(seen) <= 3  # a chunk may be under way
    assert all(0 <= done <= of for done, of in seen) and seen[0] < seen[1]


def test_a_model_is_opened_once(kept):
    for name, prompt in (("demo", "calm piano"), ("beats", "techno"), ("digits", "one")):
        first = work_of(kept, name, prompt).model
        assert work_of(kept, name, prompt).model is first and kept[name].opened == 1


def test_a_kept_diffusion_takes_the_scheduler_of_each_job(kept):
    names = [type(work_of(kept, "beats", "techno", scheduler=one).model.scheduler).__name__ for one in ("lms", "euler")]
    own = type(work_of(kept, "beats", "techno").model.scheduler).__name__
    assert names == ["LMSDiscreteScheduler", "EulerDiscreteScheduler"] and own not in names


def test_each_family_says_which_words_it_has_no_use_for():
    unused = {}
    for name in ("demo", "digits", "beats"):
        folder = resolve(name)
        unused[name] = part_of_family(folder, "command").unused(folder)
    assert {"steps", "voice", "melody"} <= unused["demo"] and "audio" not in unused["demo"]
    assert {"audio", "negative_prompt"} <= unused["digits"] and "voice" not in unused["digits"]
    assert {"top_k", "audio", "voice"} <= unused["beats"] and "negative_prompt" not in unused["beats"]
