"""Sampling: the codes of the original program, windows and levels; runs that are stopped and go on; what is refused."""

import copy
import json

import numpy as np
import pytest

from mindmusicgen.jukebox import run_folder
from mindmusicgen.jukebox.config import PATTERNS
from mindmusicgen.jukebox.initial_weights import initialise
from mindmusicgen.jukebox.model import JukeboxModel
from mindmusicgen.jukebox.sampling import uniforms

EAGER = {"1b": {0, 2}, "5b": {0, 1, 2}}  # the other level is compiled


@pytest.fixture(scope="module")
def models(both):
    """The models, of which some levels compute operation by operation: to compile all takes minutes."""
    for variant, golden in both.items():
        golden.model.priors.eager = frozenset(EAGER[variant])
    return both


class Small:
    """A model of random weights with few layers, computed operation by operation, and the labels of two songs."""

    def __init__(self, golden, layers=3):
        config = copy.deepcopy(golden.model.config)
        for prior in config.prior_configs:
            prior.num_layers = layers
        self.model, self.labels, self.asked = JukeboxModel(config), golden.labels, golden.asked
        self.model.priors.eager = frozenset({0, 1, 2})
        for prior in self.model.priors:
            initialise(prior, 0.3)


@pytest.fixture(scope="module")
def quick(both):
    return Small(both["1b"])


def given(golden, run):
    """The codes that a run begins with."""
    empty = [np.zeros((2, 0), np.int32)] * 3
    if run == "B":
        return [one.asnumpy() for one in golden.model.encode(golden["B_prompt_audio"][..., None])]
    if run == "C":
        return [golden["C_given_codes_2"], *empty[1:]]
    return [golden[f"D_given_codes_{2 - i}"] for i in range(3)] if run == "D" else empty


@pytest.mark.parametrize(
    "variant, run, levels",
    [
        ("1b", "B", (0, 1, 2)),
        ("5b", "D", (0,)),
        ("5b", "E", (0, 2)),
    ],
)
def test_codes_are_the_originals(models, variant, run, levels):
    golden = models[variant]
    asked = golden.asked(run, sample_levels=list(levels))
    if levels == (0, 2):
        found = [golden.codes(run, 0), golden.codes(run, 1), np.zeros((2, 0), np.int32)]
        found = golden.model.upsample(found, golden.labels, **(asked | {"sample_levels": [2]}))
        found[0] = golden.model.ancestral_sample(golden.labels, 2, **(asked | {"sample_levels": [0]}))[0]
    elif run == "B":
        found = golden.model.primed_sample(golden["B_prompt_audio"][..., None], golden.labels, **asked)
    elif run == "C":
        found = golden.model.upsample(given(golden, run), golden.labels, **asked)
    elif run == "D":
        found = golden.model.continue_sample(given(golden, run), golden.labels, **asked)
    else:
        found = golden.model.ancestral_sample(golden.labels, 2, **asked)
    for level in levels:
        np.testing.assert_array_equal(found[level].asnumpy(), golden.codes(run, level))


@pytest.mark.parametrize("level", range(3))
def test_sound_is_the_originals_at_every_level(both, level, close):
    golden = both["1b"]
    codes = [golden.codes("E", i) for i in range(level + 1)]
    close(golden.model.decode(codes).asnumpy()[..., 0], golden[f"E_audio_{2 - level}"], 1e-5)


def sampled(golden, rows=2, **more):
    asked = golden.asked("E", sample_levels=[0], top_k=0, seed=3, sample_length=128 * 12) | more
    return golden.model.ancestral_sample([one[:1] for one in golden.labels], rows, **asked)[0].asnumpy()


def test_a_sample_is_the_same_alone_in_batches_and_again(quick):
    found = sampled(quick)
    assert len(set(map(bytes, found))) == 2
    np.testing.assert_array_equal(sampled(quick, max_batch_size=1), found)
    np.testing.assert_array_equal(sampled(quick, 1, seed=4), found[1:])
    np.testing.assert_array_equal(sampled(quick, seed=[3, 4]), found)
    assert not np.array_equal(sampled(quick, seed=8), found)


def test_settings_change_what_is_chosen(quick):
    found = sampled(quick)
    assert not np.array_equal(sampled(quick, sampling_temperature=5.0), found)
    assert not np.array_equal(sampled(quick, top_k=2), found)
    np.testing.assert_array_equal(sampled(quick, top_p=1e-6), sampled(quick, top_k=1))


def test_the_numbers_of_a_code_depend_on_its_place_alone():
    whole = uniforms(5, 1, 0, 100)
    np.testing.assert_array_equal(uniforms(5, 1, 30, 50), whole[30:80])
    assert whole.dtype == np.float32 and whole.min() >= 0 and whole.max() < 1
    assert not np.array_equal(uniforms(5, 2, 0, 100), whole) and not np.array_equal(uniforms(6, 1, 0, 100), whole)


def test_sample_tokens_are_new_codes_of_each_level(quick):
    assert sampled(quick, sample_tokens=5).shape == (2, 5)


@pytest.mark.parametrize("variant, kinds", [("1b", ("prime", "dense", "row")), ("5b", ("cross", "column", "previous"))])
def test_compiled_steps_of_every_kind_are_the_eager_ones(both, monkeypatch, variant, kinds):
    golden = both[variant]
    config = copy.deepcopy(golden.model.config)
    config.prior_configs[0].num_layers = 3
    monkeypatch.setitem(PATTERNS, config.prior_configs[0].attention_pattern, lambda layer: kinds[layer % 3])
    model, found = JukeboxModel(config), []
    for prior in model.priors:
        initialise(prior, 0.3)
    for eager in ({0}, ()):
        model.priors.eager = frozenset(eager)
        model.priors.made.clear()
        asked = golden.asked("B", sample_levels=[0], top_k=0, seed=1)
        found.append(model.ancestral_sample(golden.labels, 2, **asked)[0].asnumpy())
    np.testing.assert_array_equal(*found)


class TestRuns:
    """Runs on disk: 40 codes of the top level, in three windows."""

    asked = {"sample_length": 5120, "top_k": 0, "seed": 11, "save_results": True}

    def make(self, golden, folder, **more):
        asked = golden.asked("B", sample_levels=[0]) | self.asked | {"output_dir": str(folder)}
        return golden.model.ancestral_sample(golden.labels, 2, **(asked | more))[0].asnumpy()

    def test_a_stopped_run_goes_on_bit_for_bit(self, quick, tmp_path):
        whole = self.make(quick, tmp_path / "whole")
        assert sorted(one.name for one in (tmp_path / "whole" / "level_0").iterdir()) == [
            "codes.npy",
            "sample_0.wav",
            "sample_1.wav",
        ]
        seen = []

        def stop(level, done, steps):
            seen.append((level, done, steps))
            return done < 34  # in the second window

        part = self.make(quick, tmp_path / "part", callback=stop)
        assert part.shape == (2, 32) and seen[-1] == (0, 36, 40)
        assert np.load(tmp_path / "part" / "level_0" / "codes.npy").shape == (2, 32)
        again = self.make(quick, tmp_path / "part", resume=True, seed=None)
        np.testing.assert_array_equal(again, whole)
        assert json.loads((tmp_path / "part" / "run.json").read_text())["finished"] is True
        np.testing.assert_array_equal(self.make(quick, tmp_path / "part", resume=True), whole)

    def test_a_run_in_the_way_is_refused(self, quick, tmp_path, refused):
        self.make(quick, tmp_path, callback=lambda level, done, steps: done < 34)
        refused(lambda: self.make(quick, tmp_path), "has not ended", "resume=True")
        refused(lambda: self.make(quick, tmp_path, resume=True, seed=12), "another seeds")
        refused(lambda: self.make(quick, tmp_path, resume=True, sample_length=5248), "another codes")
        np.save(tmp_path / "level_0" / "codes.npy", np.zeros((1, 3), np.int32))
        refused(lambda: self.make(quick, tmp_path, resume=True), "not this run's codes")
        np.save(tmp_path / "level_0" / "codes.npy", np.full((2, 3), 10**6, np.int32))
        refused(lambda: self.make(quick, tmp_path, resume=True), "not this run's codes")
        with open(tmp_path / "level_0" / "codes.npy", "wb") as file:
            np.savez(file, codes=np.zeros((2, 3), np.int32))
        refused(lambda: self.make(quick, tmp_path, resume=True), "cannot be read")
        (tmp_path / "level_0" / "codes.npy").write_bytes(b"nothing")
        refused(lambda: self.make(quick, tmp_path, resume=True), "cannot be read")

    def test_a_code_that_was_changed_is_seen(self, quick, tmp_path, refused):
        """Also where it became another code that there is."""
        self.make(quick, tmp_path, callback=lambda level, done, steps: done < 34)
        path = tmp_path / "level_0" / "codes.npy"
        written = path.read_bytes()
        assert np.load(path).shape == (2, 32)
        changed = bytearray(written)
        changed[-17 - 3] ^= 1  # the lowest bits of the last code: sixteen digits follow it
        for damaged in (bytes(changed), written[:-1], written + b"0"):
            path.write_bytes(damaged)
            refused(lambda: self.make(quick, tmp_path, resume=True), "not those that were written")
        path.write_bytes(written[:-16])  # as NumPy would have written it
        self.make(quick, tmp_path, resume=True)

    def test_a_run_of_another_model_is_refused(self, both, quick, tmp_path, refused):
        self.make(quick, tmp_path, callback=lambda level, done, steps: done < 20)
        refused(lambda: self.make(Small(both["1b"], 2), tmp_path, resume=True), "another model")

    def test_a_full_disk_is_told(self, quick, tmp_path, refused, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(run_folder.np, "save", full)
        refused(lambda: self.make(quick, tmp_path), "No space left on device", "resume=True")

    def test_nothing_of_it_is_on_disk_unless_asked_for(self, quick, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        self.make(quick, tmp_path / "run", save_results=False, sample_length=256)
        assert list(tmp_path.iterdir()) == []


def refusals(golden):
    """Calls and words of their errors."""
    model, labels, empty = golden.model, golden.labels, [np.zeros((2, 0), np.int32)] * 3
    codes = [np.zeros((2, n), np.int32) for n in (8, 32, 128)]

    def ask(given=empty, levels=None, those=labels, **more):
        return lambda: model._sample(given, those, levels, **(golden.asked("E", sample_length=2048) | more))

    audio = np.zeros((2, 4096, 1), np.float32)
    return [
        (ask(sample_length=127), "less than one code", "at least 128"),
        (ask(sample_length=50000), "more than max_duration, 1 s"),
        (ask(sample_length=None, sample_length_in_seconds=-1), "sample_length_in_seconds is -1"),
        (ask(total_length_in_seconds=0.01), "less than the sample"),
        (ask(offset=40000), "offset 40000 is not within the song"),
        (ask(sample_length=12800, offset=40000, total_length_in_seconds=0.99), "a window from 0.92 s"),
        (ask(total_length_in_seconds=1.0), "outside what the model knows", "0.1 up to"),
        (ask(total_length_in_seconds=0.05, offset=0), "outside what the model knows"),
        (ask(codes, sample_length=512), "has 8 codes and the sample 4"),
        (lambda: model.primed_sample(audio, labels, **golden.asked("E")), "has 32 codes and the sample 16"),
        (lambda: model.primed_sample(np.zeros((2, 99, 1)), labels), "the prompt has 99 samples"),
        (lambda: model.primed_sample(np.zeros((2, 256, 2)), labels), "expected mono"),
        (lambda: model.primed_sample(np.full((2, 256, 1), np.inf), labels), "NaN or infinity"),
        (ask([codes[0] + 32, *empty[1:]]), "codes from 32 to 32; expected 0 to 31"),
        (ask(codes[:2]), "music_tokens is", "a list of 3 arrays"),
        (ask([codes[0], codes[1][:, :20], codes[2]]), "music_tokens[1] has 20 codes for 8 above; expected 4 for each"),
        (ask([codes[0], empty[1][:1], empty[2]]), "music_tokens have [2, 1, 2] rows"),
        (ask(those=labels[:2]), "labels are", "a list of 3"),
        (ask(top_k=3, top_p=0.5), "top_k is 3 and top_p is 0.5; give one"),
        (ask(sampling_temperature=0), "sampling_temperature is 0", "at least 1e-18"),
        (ask(top_p=1.5), "top_p is 1.5", "at most 1"),
        (ask(levels=[1]), "prior 1 is to make 64 codes from 0 of the level above", "sample level 0 as well"),
        (ask(levels=[3]), "sample_levels is [3]; expected some of 0 to 2"),
        (ask(seed=[1]), "seed has 1 entries for 2 pieces"),
        (ask(max_batch_size=0), "max_batch_size is 0"),
        (ask(hop_fraction=0), "hop_fraction is 0"),
        (ask(sampling_temperature=1e-300), "sampling_temperature is 1e-300"),
        (ask(output_dir=None, save_results=True), "output_dir is None"),
        (lambda: model.ancestral_sample(labels, 0), "n_samples is 0"),
        (lambda: model.ancestral_sample(labels, 3, **golden.asked("E")), "labels of prior 0"),
        (lambda: model.decode([empty[0]]), "no codes"),
        (lambda: model.decode([]), "no codes"),
        (lambda: model.decode(codes + codes), "at most 3"),
        (lambda: JukeboxModel("1b"), "config is one of 'str'"),
    ]


@pytest.mark.parametrize("number", range(34))
def test_what_cannot_be_is_refused_at_once(both, refused, number):
    cases = refusals(both["1b"])
    assert len(cases) == 34
    call, *words = cases[number]
    refused(call, *words)


def test_too_little_memory_is_told(quick, refused, monkeypatch):
    monkeypatch.setattr("mindmusicgen.runtime.memory_limits.room", lambda: (1000, "its container"))
    refused(lambda: sampled(quick), "prior 0 with 2 samples needs", "its container has")


def test_too_little_room_on_disk_is_told(quick, refused, monkeypatch, tmp_path):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
    refused(lambda: TestRuns().make(quick, tmp_path / "run"), "output")
