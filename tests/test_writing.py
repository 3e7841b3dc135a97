"""Folders are written whole: after any writer, whatever lay there before is not taken for the new model's."""

import json
import os
import shutil
import stat

import numpy as np
import pytest
from safetensors.numpy import save_file

from mindmusicgen import InputError, MusicgenForConditionalGeneration, MusicgenProcessor
from mindmusicgen.checkpoint import writing
from mindmusicgen.checkpoint.source import DEMO, NATIVE
from mindmusicgen.checkpoint.writing import copy_companions, whole_folder
from mindmusicgen.musicgen.checkpoint.convert import convert

FORMS = {  # earlier weights: what lies in the folder
    "native": (NATIVE,),
    "pytorch": ("pytorch_model.bin",),
    "shards": ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"),
    "shards of .bin": ("pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"),
    "another precision": ("model.fp32.safetensors", "model.fp32-00001-of-00002.safetensors"),
}


@pytest.fixture(scope="module")
def plain(goldens):
    return goldens("plain")


def same(folder, model):
    opened = MusicgenForConditionalGeneration.from_pretrained(str(folder))
    expected = dict(model.parameters_and_names())
    for name, parameter in opened.parameters_and_names():
        np.testing.assert_allclose(parameter.asnumpy(), expected[name].asnumpy(), rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("writer", ["save_pretrained", "convert"])
def test_earlier_weights_are_gone(plain, tmp_path, form, writer):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in (*FORMS[form], "notes.txt"):
        (folder / name).write_text("an earlier model")
    if writer == "convert":
        convert(str(plain.write(tmp_path / "source")), str(folder))
    else:
        plain.model.save_pretrained(str(folder))
    assert not set(FORMS[form]) & set(os.listdir(folder)) - {NATIVE}
    assert (folder / "notes.txt").read_text() == "an earlier model"
    same(folder, plain.model)


def test_saving_over_a_converted_model(plain, tmp_path):
    """The next `from_pretrained` opens what was saved, not what was converted."""
    head = "decoder.lm_heads.0.weight"
    changed = plain.weights | {head: plain.weights[head] * 2}
    convert(str(plain.write(tmp_path / "source", changed)), str(tmp_path / "model"))
    plain.model.save_pretrained(str(tmp_path / "model"))
    same(tmp_path / "model", plain.model)
    convert(str(tmp_path / "source"), str(tmp_path / "model"))
    assert not (tmp_path / "model" / "model.safetensors").exists()
    heads = MusicgenForConditionalGeneration.from_pretrained(str(tmp_path / "model")).decoder.lm_heads.weight.asnumpy()
    np.testing.assert_array_equal(heads[:32], changed[head])


def test_a_network_alone_over_a_whole_model(plain, tmp_path):
    """What only the whole model had is gone, so that nothing of it is used with other weights."""
    from mindmusicgen import T5EncoderModel

    folder = plain.write(tmp_path)
    T5EncoderModel.from_pretrained(str(folder)).save_pretrained(str(folder))
    assert "generation_config.json" not in os.listdir(folder)
    with pytest.raises(InputError, match="config.json describes a 't5' model"):
        MusicgenForConditionalGeneration.from_pretrained(str(folder))
    assert T5EncoderModel.from_pretrained(str(folder)).config.d_model == plain.config["text_encoder"]["d_model"]


def test_an_earlier_tokenizer_is_gone(tmp_path):
    for name in ("spiece.model", "added_tokens.json", "tokenizer.model", "notes.txt"):
        (tmp_path / name).write_text("an earlier one")
    processor = MusicgenProcessor.from_pretrained("demo")
    processor.save_pretrained(str(tmp_path))
    assert (tmp_path / "spiece.model").read_bytes() == (DEMO / "spiece.model").read_bytes()
    assert {"added_tokens.json", "tokenizer.model"}.isdisjoint(os.listdir(tmp_path))
    assert (tmp_path / "notes.txt").read_text() == "an earlier one"
    again = MusicgenProcessor.from_pretrained(str(tmp_path))
    again.save_pretrained(str(tmp_path))  # in place
    assert again.tokenizer("calm piano")["input_ids"] == processor.tokenizer("calm piano")["input_ids"]


def test_weights_and_tokenizer_come_in_any_order(plain, tmp_path):
    processor = MusicgenProcessor.from_pretrained("demo")
    processor.save_pretrained(str(tmp_path))
    before = set(os.listdir(tmp_path))
    plain.model.save_pretrained(str(tmp_path))
    assert before < set(os.listdir(tmp_path))
    processor.save_pretrained(str(tmp_path))
    same(tmp_path, plain.model)


@pytest.mark.parametrize("fail_at", range(3))
def test_a_replacement_that_is_cut_short_is_not_opened(plain, tmp_path, monkeypatch, fail_at):
    """Whatever file was the last that arrived: the folder is no mixture that opens."""
    folder, done = tmp_path / "model", []
    convert(str(plain.write(tmp_path / "source")), str(folder))

    def replace(source, target):
        if os.path.dirname(target) == str(folder):
            if len(done) == fail_at:
                raise KeyboardInterrupt
            done.append(target)
        return shutil.move(source, target)

    monkeypatch.setattr(writing.os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        plain.model.save_pretrained(str(folder))
    monkeypatch.undo()
    with pytest.raises(InputError, match="config.json"):
        MusicgenForConditionalGeneration.from_pretrained(str(folder))
    plain.model.save_pretrained(str(folder))
    same(folder, plain.model)


def test_files_of_export_are_not_written_into(plain, tmp_path):
    """A changed model with the same config would fit the old graphs' manifest."""
    (tmp_path / "manifest.json").write_text("{}")
    source = plain.write(tmp_path / "source")
    for write in (
        lambda: plain.model.save_pretrained(str(tmp_path)),
        lambda: convert(str(source), str(tmp_path)),
        lambda: MusicgenProcessor.from_pretrained("demo").save_pretrained(str(tmp_path)),
    ):
        with pytest.raises(InputError, match="mindmusicgen export"):
            write()
    assert sorted(os.listdir(tmp_path)) == ["manifest.json", "source"]


def test_through_a_link_and_with_usual_rights(plain, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for target in ("link", "new"):
        plain.model.save_pretrained(str(tmp_path / target))
    assert (tmp_path / "link").is_symlink()
    same(tmp_path / "elsewhere", plain.model)
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o777 & ~umask


def test_a_link_to_the_cache_is_replaced_and_not_written_through(plain, tmp_path):
    blob = tmp_path / "blob"
    save_file({"w": np.zeros(3, np.float32)}, blob)
    before = blob.read_bytes()
    (tmp_path / "model").mkdir()
    for name in ("model.safetensors", NATIVE):
        (tmp_path / "model" / name).symlink_to(blob)
    plain.model.save_pretrained(str(tmp_path / "model"))
    assert blob.read_bytes() == before
    same(tmp_path / "model", plain.model)


def test_a_folder_that_appears_meanwhile(tmp_path):
    with pytest.raises(InputError, match="cannot be written"), whole_folder(tmp_path / "new") as partial:
        open(os.path.join(partial, "a"), "w").close()
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "theirs").write_text("theirs")
    assert os.listdir(tmp_path) == ["new"] and os.listdir(tmp_path / "new") == ["theirs"]


def test_companions_are_files(tmp_path):
    (tmp_path / "tokenizer_notes").mkdir()
    (tmp_path / "tokenizer.json").write_text(json.dumps({}))
    (tmp_path / "to").mkdir()
    copy_companions(str(tmp_path), str(tmp_path / "to"))
    assert os.listdir(tmp_path / "to") == ["tokenizer.json"]
