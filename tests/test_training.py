"""Training: the losses equal NumPy, runs resume exactly, and a user's folder is taken with all its faults."""

import errno
import json
import os
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
import soundfile
from mindspore import Parameter, Tensor, nn, ops
from transformers import EncodecConfig, MusicgenConfig, MusicgenDecoderConfig, T5Config

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

from random_checkpoint import build_tokenizer
from tiny_codec import CODEC, RATE

from mindmusicgen import InputError, MusicgenForConditionalGeneration, MusicgenProcessor, cli
from mindmusicgen.audio import UnusableAudio, read_audio
from mindmusicgen.checkpoint.safetensors_file import open_safetensors, read_metadata, write_safetensors
from mindmusicgen.musicgen.training import data
from mindmusicgen.musicgen.training.language_model import CaptionedCodes, LanguageModelLoss, delayed_columns
from mindmusicgen.training import loop
from mindmusicgen.training.pairs import Pair, find_pairs

STEPS, EVERY = 40, 4


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Folder of a model with random weights."""
    folder = str(tmp_path_factory.mktemp("model"))
    tokenizer = build_tokenizer()
    text = T5Config(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0)
    decoder = MusicgenDecoderConfig(
        vocab_size=16,
        pad_token_id=16,
        bos_token_id=16,
        hidden_size=32,
        ffn_dim=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=256,
        activation_function="relu",
        dropout=0.0,
    )
    parts = {"text_encoder": text, "audio_encoder": EncodecConfig(**CODEC), "decoder": decoder}
    config = MusicgenConfig(**{name: part.to_dict() for name, part in parts.items()})
    MusicgenForConditionalGeneration(config).initialise(0, std=0.1).save_pretrained(folder)
    MusicgenProcessor(tokenizer=tokenizer).save_pretrained(folder)
    return folder


def sound(path, samples, rate=RATE):
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, np.asarray(samples, np.float32), rate, subtype="FLOAT" if path.suffix == ".wav" else None)


def sine(seconds, hertz=200, rate=RATE):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data with three usable files and every fault."""
    folder = tmp_path_factory.mktemp("data")
    sound(folder / "a.wav", sine(2.6))
    (folder / "a.txt").write_text("calm jazz track\nwith bells\n")
    sound(folder / "more" / "b.flac", sine(1.5, 300, 8000), 8000)
    sound(folder / "c.wav", np.stack([sine(1.2, 500), sine(1.2, 100)], 1))
    for name, samples in {
        "silent": np.zeros(2 * RATE),
        "short": sine(0.9),
        "infinite": np.append(sine(2), np.inf),
        "empty": [],
    }.items():
        sound(folder / f"{name}.wav", samples)
        (folder / f"{name}.txt").write_text("dark techno track")
    (folder / "broken.mp3").write_bytes(b"not audio")
    (folder / "broken.txt").write_text("dark techno track")
    sound(folder / "no_caption.wav", sine(2))
    sound(folder / "blank.wav", sine(2))
    (folder / "blank.txt").write_text(" \n")
    sound(folder / "latin.wav", sine(2))
    (folder / "latin.txt").write_bytes(b"caf\xe9")
    rows = [
        {"file_name": "more/b.flac", "text": "happy rock track"},
        {"file_name": "more/b.flac", "text": "fast rock track with heavy bass"},
        {"file_name": "c.wav", "caption": "slow folk track"},
        {"file_name": "../outside.wav", "text": "a"},
        {"file_name": "gone.wav", "text": "a"},
        {"text": "nothing"},
    ]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "{half a row\n")
    return folder


SKIPPED = {
    "../outside.wav": "leads out of the data folder",
    "gone.wav": "is not there",
    "metadata.jsonl row 6": "names no file",
    "metadata.jsonl row 7": "names no file",
    "no_caption.wav": "has no caption",
    "blank.wav": "has an empty caption",
    "latin.wav": "has a caption that cannot be read",
    "silent.wav": "is silent",
    "short.wav": "is shorter than a second",
    "infinite.wav": "holds samples that are not finite",
    "empty.wav": "is empty",
    "broken.mp3": "cannot be read",
}


def train(model, folder, output, *more):
    words = ["train", "--data", str(folder), "--model", model, "--output", str(output), "--steps", str(STEPS)]
    return cli.main([*words, "--batch", "2", "--seconds", "1.5", "--learning-rate", "0.03", *more])


def history(output):
    return [json.loads(line) for line in (output / loop.HISTORY).read_text().splitlines()]


def state(output):
    return {name: tensor.read() for name, tensor in open_safetensors(str(output / loop.STATE)).items()}


@pytest.fixture(scope="module")
def trained(model, folder, tmp_path_factory):
    """Output of a run that nothing disturbed."""
    output = tmp_path_factory.mktemp("runs") / "whole"
    assert train(model, folder, output) == 0
    return output


def test_fine_tuning_learns_the_clips(trained, model):
    records = history(trained)
    assert [record["step"] for record in records] == list(range(EVERY, STEPS + 1, EVERY))
    assert records[-1]["loss"] < 0.5 * records[0]["loss"], records
    assert (trained / loop.CURVES).read_bytes().startswith(b"\x89PNG")
    before, after = (
        dict(MusicgenForConditionalGeneration.from_pretrained(path).parameters_and_names())
        for path in (model, str(trained / "model"))
    )
    # The codec's weights come out rounded: weight norm is stored in two parts.
    changed = {name for name in before if np.abs(before[name].asnumpy() - after[name].asnumpy()).max() > 1e-6}
    assert {name.split(".")[0] for name in changed} == {"text_encoder", "conditioner", "decoder"}
    assert MusicgenProcessor.from_pretrained(str(trained / "model"))(text="jazz")["input_ids"].shape[0] == 1
    assert not [name for name in os.listdir(trained) if "partial" in name]


def test_what_cannot_be_used_is_listed(trained):
    listed = dict(line.split(": ") for line in (trained / data.SKIPPED).read_text().splitlines())
    assert listed == SKIPPED


def test_windows_have_the_real_length(trained):
    with np.load(trained / data.CODES, allow_pickle=False) as file:
        # a: 1.5 s and the rest of 1.1 s; c: 1.2 s; b: 1.5 s, resampled from 8 kHz.
        assert file["frames"].tolist() == [75, 55, 60, 75]
        assert file["codes"].shape == (4, 265) and file["codes"].min() >= 0 and file["codes"].max() < 16
        assert len(np.unique(file["codes"])) > 3


def test_interrupted_and_resumed_equals_undisturbed(trained, model, folder, tmp_path, monkeypatch, capsys):
    draw, coding = CaptionedCodes.batch, MusicgenForConditionalGeneration.encode

    def interrupted(self, step):
        if step == STEPS // 2 + 1:  # within an interval of the history
            raise KeyboardInterrupt
        return draw(self, step)

    monkeypatch.setattr(CaptionedCodes, "batch", interrupted)
    assert train(model, folder, tmp_path / "run") == 130
    said = capsys.readouterr().err
    assert f"step {STEPS // 2 + 1} of {STEPS} was saved" in said and "nothing was written" not in said
    assert f"skipped {len(SKIPPED)}, used 3 (" in said and "1 x is silent" in said and "2 x names no file" in said
    assert (tmp_path / "run" / loop.CURVES).is_file() and not (tmp_path / "run" / "model").exists()

    monkeypatch.setattr(CaptionedCodes, "batch", draw)
    monkeypatch.setattr(MusicgenForConditionalGeneration, "encode", None)  # the codes are there already
    assert train(model, folder, tmp_path / "run") == 0
    assert f"going on from step {STEPS // 2 + 1}" in capsys.readouterr().out
    assert history(tmp_path / "run") == history(trained)
    found, expected = state(tmp_path / "run"), state(trained)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-6, err_msg=name)
    assert dict(line.split(": ") for line in (tmp_path / "run" / data.SKIPPED).read_text().splitlines()) == SKIPPED
    monkeypatch.setattr(MusicgenForConditionalGeneration, "encode", coding)


def test_two_trainings_do_not_share_a_folder(model, folder, tmp_path, capsys, another_run_in):
    """Neither by the command, before anything is written, nor by the loop alone."""
    with another_run_in(tmp_path / "run"):
        before = os.listdir(tmp_path / "run")
        assert train(model, folder, tmp_path / "run") == 2
        said = capsys.readouterr().err
        assert "another run works on" in said and os.listdir(tmp_path / "run") == before
        trainer = loop.Trainer(Square(), str(tmp_path / "run"), 1)
        with pytest.raises(InputError, match="another run works on"):
            trainer.fit(lambda step: ())
    assert os.listdir(tmp_path / "run") == []


def test_a_finished_run_stays_as_it_is(trained, model, folder, capsys):
    records, parameters = history(trained), (trained / loop.STATE).read_bytes()
    (trained / "model" / "model.safetensors").unlink()
    assert train(model, folder, trained) == 0
    assert f"going on from step {STEPS} of {STEPS}" in capsys.readouterr().out
    assert history(trained) == records and (trained / loop.STATE).read_bytes() == parameters
    assert (trained / "model" / "model.safetensors").is_file()


@pytest.fixture(scope="module")
def opened(model):
    return MusicgenForConditionalGeneration.from_pretrained(model), MusicgenProcessor.from_pretrained(model)


def test_coding_goes_on_and_a_changed_folder_is_coded_again(opened, tmp_path, monkeypatch):
    folder, path, coded = tmp_path / "data", str(tmp_path / "codes.npz"), []
    folder.mkdir()
    for name in "abc":
        sound(folder / f"{name}.wav", sine(1.2, 100 + 50 * ord(name)))
        (folder / f"{name}.txt").write_text("jazz")
    encode = MusicgenForConditionalGeneration.encode

    def counted(self, audio):
        coded.append(len(coded))
        if len(coded) == 2 and not os.path.exists(path):
            raise KeyboardInterrupt
        return encode(self, audio)

    def code():
        pairs, skipped = find_pairs(str(folder))
        assert not skipped
        before = len(coded)
        return data.code_audio(opened[0], str(folder), pairs, 75, path), len(coded) - before

    monkeypatch.setattr(MusicgenForConditionalGeneration, "encode", counted)
    with pytest.raises(KeyboardInterrupt):
        code()
    first, count = code()
    assert count == 2 and first.sources == [0, 1, 2]  # a was kept
    assert code()[1] == 0
    (folder / "b.txt").write_text("rock")
    again, count = code()
    assert count == 3
    for one, other in zip(first.codes, again.codes, strict=True):
        np.testing.assert_array_equal(one, other)
    (tmp_path / "codes.npz").write_bytes(b"damaged")
    assert code()[1] == 3


def test_a_frozen_text_encoder_is_not_trained(opened):
    trained = {p.name.split(".")[0] for p in LanguageModelLoss(opened[0], train_text=False).trainable_params()}
    assert trained == {"conditioner", "decoder"}


def test_captions_share_one_length_and_long_ones_are_cut(opened):
    pairs = [Pair("a", ("jazz", "rock"), ()), Pair("b", ("happy techno " * 15,), ())]
    found = data.tokenise(opened[1], pairs, 512)
    assert [len(captions) for captions in found] == [2, 1]
    longest = len(opened[1].tokenizer(pairs[1].captions[0])["input_ids"])
    assert 32 < longest < 512  # else the next line says little
    shapes = {array.shape for captions in found for pair in captions for array in pair}
    assert shapes == {(next(size for size in (64, 128, 256, 512) if size >= longest),)}
    expected = opened[1](text="rock", return_tensors="np")
    ids, mask = found[0][1]
    np.testing.assert_array_equal(ids[mask == 1], expected["input_ids"][0])
    assert data.tokenise(opened[1], [Pair("a", ("happy " * 2000,), ())], 512)[0][0][0].shape == (512,)
    with pytest.raises(InputError, match="another model's"):
        data.tokenise(opened[1], pairs, 3)


def refusal(capsys, *arguments):
    """The sentence on standard error for bad input."""
    assert cli.main([str(argument) for argument in arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "Traceback" not in "".join(lines) and lines[-1].startswith("mindmusicgen: error: "), lines
    return lines[-1]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("steps", "0", "steps is 0; expected a whole number of at least 1"),
        ("batch", "-1", "batch is -1; expected"),
        ("seed", "-1", "seed is -1; expected"),
        ("learning-rate", "0", "learning rate is 0.0; expected"),
        ("learning-rate", "nan", "learning rate is nan; expected"),
        ("seconds", "-2", "seconds is -2.0; expected 1 to 30"),
        ("seconds", "0.5", "seconds is 0.5; expected 1 to 30"),
        ("seconds", "31", "at most 5.06 s"),
        ("seconds", "5.08", "at most 5.06 s"),
        ("seconds", "nan", "seconds is nan; expected 1 to 30"),
        ("data", "no/such", "data 'no/such' is not a folder"),
        ("model", "no/such/model", "is neither an existing folder"),
        ("output", "/proc/none", "cannot be written"),
    ],
)
def test_bad_arguments_are_one_sentence(model, folder, tmp_path, capsys, name, value, words):
    given = {"data": folder, "model": model, "output": tmp_path / "run", "seconds": 2} | {name: value}
    assert words in refusal(capsys, "train", *(word for key, part in given.items() for word in (f"--{key}", part)))
    assert not (tmp_path / "run").exists()


def test_outputs_of_other_runs_are_refused(trained, model, folder, tmp_path, capsys):
    words = ["train", "--data", folder, "--model", model, "--seconds", 1.5, "--output"]
    before = (trained / loop.STATE).read_bytes()
    assert f"holds a run with steps {STEPS}, not 1000" in refusal(capsys, *words, trained)
    more = ["--steps", STEPS, "--batch", 2]
    assert "holds a run with freeze_text False, not True" in refusal(capsys, *words, trained, *more, "--freeze-text")
    assert "holds a run with data" in refusal(capsys, "train", "--data", tmp_path, *words[3:], trained, *more)
    assert (trained / loop.STATE).read_bytes() == before
    assert "would overwrite the model" in refusal(capsys, *words, model)
    (tmp_path / loop.STATE).write_bytes(b"")
    assert "a run of something else" in refusal(capsys, *words, tmp_path)
    (tmp_path / "file").write_text("")
    assert "cannot be a folder" in refusal(capsys, *words, tmp_path / "file")


def test_nothing_usable_is_refused(model, tmp_path, capsys):
    folder = tmp_path / "data"
    folder.mkdir()
    words = ["train", "--data", folder, "--model", model, "--output", tmp_path / "run", "--seconds", "2"]
    assert "holds nothing to train on; expected audio" in refusal(capsys, *words)
    sound(folder / "a.wav", sine(2))
    sound(folder / "b.wav", sine(0.5))
    (folder / "b.txt").write_text("jazz")
    said = refusal(capsys, *words)
    assert "holds nothing to train on (1 x has no caption, 1 x is shorter than a second)" in said
    assert sorted((tmp_path / "run" / data.SKIPPED).read_text().splitlines()) == [
        "a.wav: has no caption",
        "b.wav: is shorter than a second",
    ]
    (folder / "metadata.csv").write_text("name,text\na.wav,jazz\n")
    assert "has the columns name, text; expected file_name and text" in refusal(capsys, *words)
    (folder / "metadata.csv").write_text("file_name,description\na.wav,jazz\n")
    assert [pair.captions for pair in find_pairs(str(folder))[0]] == [("jazz",), ("jazz",)]


def test_read_audio_mixes_and_resamples(tmp_path):
    sound(tmp_path / "a.wav", np.stack([sine(1, 200, 8000), np.zeros(8000)], 1), 8000)
    mono = read_audio(str(tmp_path / "a.wav"), RATE, 1)
    assert mono.shape == (1, RATE) and mono.dtype == np.float32
    np.testing.assert_allclose(mono[0, 100:-100], sine(1)[100:-100] / 2, atol=2e-3)
    stereo = read_audio(str(tmp_path / "a.wav"), 8000, 2)
    np.testing.assert_allclose(stereo, np.stack([sine(1, 200, 8000), np.zeros(8000)]), atol=1e-6)
    sound(tmp_path / "b.flac", sine(1))
    np.testing.assert_array_equal(*read_audio(str(tmp_path / "b.flac"), RATE, 2))
    for bad in ("none.wav", "."):
        with pytest.raises(UnusableAudio, match="cannot be read; expected a whole .wav"):
            read_audio(str(tmp_path / bad), RATE, 1)


class Square(nn.Cell):
    """A loss with its minimum at 3, small enough to compile at once."""

    metric_names = ("loss", "distance")

    def __init__(self):
        super().__init__()
        self.weight = Parameter(Tensor(np.ones((2, 2), np.float32)), name="weight")

    def construct(self, x):
        distance = self.weight - 3.0 * x
        return (distance * distance).mean(), (ops.abs(distance).mean(),)


def ones(step):
    return (np.ones((2, 2), np.float32),)


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    trainer = loop.Trainer(Square(), str(tmp_path), 4, learning_rate=0.5, warmup=1)
    trainer.save()
    before = (tmp_path / loop.STATE).read_bytes()

    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(InputError, match="No space left on device.*the one before is kept"):
            trainer.fit(ones, every=1, show=False)
    assert trainer.step == 4 and (tmp_path / loop.STATE).read_bytes() == before
    again = loop.Trainer(Square(), str(tmp_path), 4, learning_rate=0.5, warmup=1)
    assert again.resume() == 0
    np.testing.assert_array_equal(again.network.weight.asnumpy(), np.ones((2, 2)))
    trainer.save()
    assert again.resume() == 4 and again.history == trainer.history and len(again.history) == 4
    np.testing.assert_array_equal(again.network.weight.asnumpy(), trainer.network.weight.asnumpy())
    with pytest.raises(InputError, match="a run of 4 steps"):
        loop.Trainer(Square(), str(tmp_path), 5).resume()


def test_a_damaged_run_is_one_sentence(tmp_path):
    trainer = loop.Trainer(Square(), str(tmp_path), 4, learning_rate=0.5, warmup=1)
    trainer.fit(ones, every=1, show=False)
    state, history = tmp_path / loop.STATE, tmp_path / loop.HISTORY
    stored = {name: tensor.read() for name, tensor in open_safetensors(str(state)).items()}
    facts, lines = read_metadata(str(state)), history.read_text()

    def write(arrays, facts):
        entries = [(name, value.shape, value.dtype, lambda v=value: v) for name, value in arrays.items()]
        write_safetensors(str(state), entries, facts)

    def resume():
        return loop.Trainer(Square(), str(tmp_path), 4, learning_rate=0.5, warmup=1).resume()

    whole = {name: value.astype(np.int32) if value.ndim == 2 else value for name, value in stored.items()}
    for arrays, others, text in (
        (stored, {}, lines),
        (stored, facts | {"step": "four"}, lines),
        (stored, facts | {"unfinished": "[" * 100_000}, lines),
        (stored, facts, "no JSON"),
        (stored, facts, '{"loss": 1}'),
        (stored, facts, "3"),
        (whole, facts, lines),
    ):
        write(arrays, others)
        history.write_text(text)
        with pytest.raises(InputError, match="is damaged|another network"):
            resume()
    write(stored, facts)
    history.unlink()
    with pytest.raises(InputError, match="is damaged"):
        resume()
    history.write_text(lines)
    assert resume() == 4


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path):
    trainer = loop.Trainer(Square(), str(tmp_path), 4)
    with pytest.raises(InputError, match="not finite at step 2; lower the learning rate"):
        trainer.fit(lambda step: (ones(step)[0] * (np.inf if step == 2 else 1),), show=False)
    assert not (tmp_path / loop.STATE).exists()


def test_the_schedule_rises_and_falls():
    schedule = loop.WarmupCosine(2.0, 10, 110)
    found = [float(schedule(Tensor(step, ms.int32)).asnumpy()) for step in (0, 4, 9, 60, 110, 500)]
    np.testing.assert_allclose(found, [0.2, 1.0, 2.0, 2 * 0.525, 0.1, 0.1], rtol=1e-5)


def test_delayed_columns():
    clips = [np.array([[1, 2, 3], [4, 5, 6]]), np.array([[7], [8]])]
    np.testing.assert_array_equal(
        delayed_columns(clips, 2, 9),
        [[[9, 1, 2, 9], [9, 9, 4, 5]], [[9, 7, 9, 9], [9, 9, 8, 9]]],
    )
    stereo = np.array([[1, 2], [3, 4], [5, 6], [7, 8]])  # left and right in turn share a delay
    np.testing.assert_array_equal(
        delayed_columns([stereo], 2, 9, 2), [[[9, 1, 2, 9], [9, 3, 4, 9], [9, 9, 5, 6], [9, 9, 7, 8]]]
    )


def test_every_clip_comes_once_before_any_again():
    codes = [np.full((1, 4), i) for i in range(5)]
    captions = [[(np.full(3, i), np.ones(3))] for i in range(5)]
    clips = CaptionedCodes(codes, captions, 4, 9, rows=2, dropout=0.5, seed=1)
    batches = [clips.batch(step) for step in range(200)]
    order = np.concatenate([columns[:, 0, 1] for _, _, _, columns in batches]).reshape(-1, 5)
    assert (np.sort(order, 1) == np.arange(5)).all() and len(np.unique(order, axis=0)) > 20
    assert all((ids[:, 0] == columns[:, 0, 1]).all() for ids, _, _, columns in batches)
    heard = np.concatenate([batch[2] for batch in batches])
    assert set(heard) == {0, 1} and 0.4 < heard.mean() < 0.6
    for one, other in zip(batches[7], clips.batch(7), strict=True):
        np.testing.assert_array_equal(one, other)


def pairs_of(folder):
    """Names with captions, and the skipped as a dictionary."""
    pairs, skipped = find_pairs(str(folder))
    return {pair.name: pair.captions for pair in pairs}, dict(skipped)


def test_captions_are_found_whatever_their_case_and_unicode_form(tmp_path):
    for name, caption in (
        ("Song.WAV", "song.TXT"),
        ("cafe\u0301.wav", "caf\u00e9.txt"),  # the name as macOS writes it, the caption as others do
        ("\u30ac.Flac", "\u30ab\u3099.Txt"),
        ("STRASSE.wav", "stra\u00dfe.txt"),
        ("two.wav", "two.txt"),
        ("Two.wav", "Two.txt"),
    ):
        (tmp_path / name).write_bytes(b"")
        (tmp_path / caption).write_text(f"about {name}")
    found, skipped = pairs_of(tmp_path)
    assert found == {name: (f"about {name}",) for name in found} and len(found) == 6 and not skipped


def test_tables_count_wherever_they_lie(tmp_path):
    for name in ("a.wav", "album/b.wav", "album/CD 1/c\u00e9.wav", "album/CD 1/d.wav", "x/e.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "album" / "Metadata.CSV").write_text(
        "File_Name, Text\nB.WAV,jazz\nCD 1\\ce\u0301.wav,rock\n../a.wav,up\n"
    )
    (tmp_path / "album" / "CD 1" / "metadata.jsonl").write_text('{"file_name": "d.wav", "caption": "folk"}\n')
    (tmp_path / "x" / "metadata.csv").write_text("name,words\ne.wav,a\n")  # another program's
    found, skipped = pairs_of(tmp_path)
    assert found == {
        "a.wav": ("up",),
        "album/b.wav": ("jazz",),
        "album/CD 1/c\u00e9.wav": ("rock",),
        "album/CD 1/d.wav": ("folk",),
    }
    assert skipped == {
        "x/e.wav": "has no caption",
        "x/metadata.csv": "has the columns name, words; expected file_name and text",
    }


def test_folders_behind_links_are_read_once(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    folder = tmp_path / "data"
    (folder / "own").mkdir(parents=True)
    for name in ("elsewhere/a", "data/own/b"):
        (tmp_path / f"{name}.wav").write_bytes(b"")
        (tmp_path / f"{name}.txt").write_text("jazz")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "again").symlink_to(folder / "own")
    (folder / "own" / "loop").symlink_to(folder)
    (folder / "gone").symlink_to(tmp_path / "nothing")
    (folder / "gone.wav").symlink_to(tmp_path / "nothing.wav")
    found, skipped = pairs_of(folder)
    assert set(found) == {"linked/a.wav", "own/b.wav"}
    repeated = "is a link to a folder that is read already"
    assert skipped == {"again": repeated, "own/loop": repeated, "gone.wav": "is not there"}


def test_what_looks_like_audio_or_metadata_is_used_or_listed(tmp_path):
    sound(tmp_path / "a.aiff", sine(1))
    sound(tmp_path / "b.AU", sine(1))
    for name in (
        "c.m4a",
        "d.wma",
        "notes.txt",
        "captions.csv",
        "metadata.parquet",
        "metadata.json",
        "._a.wav",
        "cover.jpg",
    ):
        (tmp_path / name).write_bytes(b"")
    for name in "abcd":
        (tmp_path / f"{name}.txt").write_text("jazz")
    rows = [
        {"file_name": name, "text": "rock"} for name in ("d.wma", "cover.jpg", "nul\0.wav", "\ud800.wav", "/etc/x.wav")
    ]
    rows.append({"file_name": "b.AU", "text": "half \ud800 a character"})
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, skipped = pairs_of(tmp_path)
    assert found == {"a.aiff": ("jazz",)}
    convert, table = (
        "is audio of a kind that is not read; convert it to .wav or .flac",
        "is no metadata.csv or metadata.jsonl",
    )
    assert skipped == {
        "b.AU": "has a caption with half a character (a lone surrogate)",
        "c.m4a": convert,
        "d.wma": convert,
        "notes.txt": "is the caption of no audio file",
        "captions.csv": table,
        "metadata.parquet": table,
        "metadata.json": table,
        "cover.jpg": "is no audio file",
        "nul\0.wav": "is no name of a file",
        "\ud800.wav": "is no name of a file",
        "/etc/x.wav": "leads out of the data folder",
    }
    data.report([*skipped.items(), ("two\nlines", "is no audio file")], 1, str(tmp_path / "list"))
    lines = (tmp_path / "list").read_text().splitlines()
    assert (
        len(lines) == 12 and "two\\nlines: is no audio file" in lines and "\\ud800.wav: is no name of a file" in lines
    )


def test_long_audio_is_coded_window_by_window_as_it_is_read(opened, tmp_path, monkeypatch):
    from mindmusicgen.runtime.interrupt import interruptible
    from mindmusicgen.sound import samples, sound_file

    path = tmp_path / "a.wav"
    sound(path, np.append(np.zeros(RATE // 2), sine(3.3, rate=RATE)))
    with interruptible() as interrupts:
        whole = data._code_file(opened[0], str(path), 75, interrupts)
        monkeypatch.setattr(sound_file, "VALUES", 700)
        monkeypatch.setattr(samples, "BLOCK", 3000)
        for one, other in zip(whole, data._code_file(opened[0], str(path), 75, interrupts), strict=True):
            np.testing.assert_array_equal(one, other)
