"""The demo's torch training and the package's own trainer compute the same losses for the same batch and weights."""

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the live comparison needs torch")

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "demo_model"))

import train_language_model as theirs  # noqa: E402
from mindspore import Tensor  # noqa: E402
from tokenizer import load_tokenizer  # noqa: E402

from mindmusicgen import MusicgenForConditionalGeneration  # noqa: E402
from mindmusicgen.checkpoint.source import DEMO  # noqa: E402
from mindmusicgen.musicgen.training.language_model import LanguageModelLoss  # noqa: E402


@pytest.mark.parametrize("step", [0, 2])
def test_losses_are_the_same(step, tmp_path):
    torch.manual_seed(step)
    tokenizer = load_tokenizer(str(DEMO))
    network = theirs.LanguageModel(len(tokenizer)).eval()
    batch = theirs.Clips(tokenizer, rows=3, seed=5).batch(step, columns=96)
    heard = torch.tensor([1, 0, 1])
    ids, mask, facts, _, columns, offset = batch
    assert offset == 0
    with torch.no_grad():
        expected, _ = theirs.losses(network, (ids, mask, facts, heard, columns, offset), half=False)
    theirs.save_model(network, tokenizer, str(tmp_path))
    model = MusicgenForConditionalGeneration.from_pretrained(str(tmp_path))
    inputs = (ids.numpy().astype(np.int32), mask.numpy().astype(np.int32), heard.numpy().astype(np.float32))
    _, found = LanguageModelLoss(model)(*map(Tensor, (*inputs, columns.numpy().astype(np.int32))))
    np.testing.assert_allclose([float(part.asnumpy()) for part in found], expected.numpy(), rtol=1e-4)
