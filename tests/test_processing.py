"""The processor: prompts to ids and masks, and what it refuses."""

import sys
from pathlib import Path

import numpy as np
import pytest
from mindspore import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

from random_checkpoint import build_tokenizer

from mindmusicgen import AutoProcessor, InputError, MusicgenProcessor


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("processor")
    MusicgenProcessor(build_tokenizer()).save_pretrained(str(path))
    return str(path)


@pytest.fixture(scope="module")
def processor(folder):
    return AutoProcessor.from_pretrained(folder)


def test_pads_right_with_zero_and_ends_each_prompt(processor):
    inputs = processor(text=["happy techno track", "slow dark ambient track with bells"], return_tensors="np")
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    assert ids.shape == mask.shape and ids.dtype == np.int32
    lengths = mask.sum(axis=1)
    assert lengths[0] < lengths[1] == ids.shape[1]
    for row, length in zip(ids, lengths, strict=True):
        assert row[length - 1] == 1, "</s> closes the prompt"
        assert (row[length:] == 0).all()
    assert (mask == (np.arange(ids.shape[1]) < lengths[:, None])).all()


def test_returns_mindspore_tensors_that_unpack(processor):
    inputs = processor(text="happy techno", return_tensors="ms")
    assert isinstance(inputs["input_ids"], Tensor) and isinstance(inputs.attention_mask, Tensor)
    assert set(dict(**inputs)) == {"input_ids", "attention_mask"}


def test_a_prompt_alone_and_in_a_batch_has_the_same_ids(processor):
    alone = processor(text="happy techno", return_tensors="np")["input_ids"][0]
    batch = processor(text=["happy techno", "a much longer slow rock track"], return_tensors="np")["input_ids"][0]
    assert (batch[: len(alone)] == alone).all()


def test_over_long_prompts_are_cut_with_a_warning_and_keep_their_end_mark(processor):
    with pytest.warns(UserWarning, match="text encoder takes 512"):
        ids = processor(text="happy techno " * 400, return_tensors="np")["input_ids"]
    assert ids.shape == (1, 512) and ids[0, -1] == 1


@pytest.mark.parametrize("text", [None, "", "   ", [], ["fine", ""], [3], 3.5])
def test_refuses_what_is_not_text(processor, text):
    with pytest.raises(InputError, match="text|prompt"):
        processor(text=text)


def test_refuses_other_misuse(processor, tmp_path):
    with pytest.raises(InputError, match="audio prompts"):
        processor(text="a", audio=np.zeros(10))
    with pytest.raises(InputError, match="return_tensors is 'pt'"):
        processor(text="a", return_tensors="pt")
    with pytest.raises(InputError, match="padding=True"):
        processor(text=["a", "a long one indeed"], padding=False)
    with pytest.raises(InputError, match="no tokenizer"):
        AutoProcessor.from_pretrained(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{broken")
    with pytest.raises(InputError, match="cannot be used"):
        AutoProcessor.from_pretrained(str(tmp_path))


def test_batch_decode_lists_the_clips(processor):
    audio = np.arange(12, dtype=np.float32).reshape(2, 1, 6)
    clips = processor.batch_decode(Tensor(audio))
    assert [clip.shape for clip in clips] == [(1, 6), (1, 6)] and (clips[1] == audio[1]).all()
