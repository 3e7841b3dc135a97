"""Loss and gradients of training against torch's, in graph mode."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the live comparison needs torch")

import mindspore as ms  # noqa: E402
import oracle  # noqa: E402
from mindspore import Tensor, nn  # noqa: E402

from mindmusicgen import MusicgenForConditionalGeneration  # noqa: E402
from mindmusicgen.musicgen.checkpoint.names import pieces  # noqa: E402
from mindmusicgen.musicgen.training.language_model import LanguageModelLoss, delayed_columns  # noqa: E402

RECIPES = {
    "gelu": {"text": {"d_model": 12, "num_layers": 2, "feed_forward_proj": "gated-gelu"}},
    "relu, few rows": {"decoder": {"activation_function": "relu", "num_hidden_layers": 1}},
}


class Loss(nn.Cell):
    """The loss alone, which `ms.grad` asks for."""

    def __init__(self, loss):
        super().__init__()
        self.loss = loss

    def construct(self, input_ids, attention_mask, heard, columns):
        return self.loss(input_ids, attention_mask, heard, columns)[0]


@pytest.mark.parametrize("name", RECIPES)
def test_loss_and_gradients_equal_torchs(name, tmp_path):
    reference = oracle.build(oracle.build_config(**RECIPES[name]), 7)
    reference.save_pretrained(tmp_path)
    config = reference.config
    pad = config.decoder.vocab_size
    rng = np.random.default_rng(0)
    rows, frames = (1, 5) if "few" in name else (3, 9)
    codes = [rng.integers(0, pad, (config.decoder.num_codebooks, frames - i)) for i in range(rows)]
    columns = delayed_columns(codes, frames, pad)
    ids, mask = oracle.prompts(config.text_encoder.vocab_size, (7, 3, 5)[:rows], 1)

    config.decoder.pad_token_id = config.decoder.decoder_start_token_id = pad
    expected = reference(
        input_ids=torch.from_numpy(ids.astype(np.int64)),
        attention_mask=torch.from_numpy(mask.astype(np.int64)),
        labels=torch.from_numpy(columns[:, :, 1:].astype(np.int64)).transpose(1, 2),
    ).loss
    expected.backward()
    gradients = {key: p.grad for key, p in reference.named_parameters() if p.grad is not None}

    model = MusicgenForConditionalGeneration.from_pretrained(str(tmp_path))
    loss = LanguageModelLoss(model).set_train(True)
    inputs = [Tensor(a.astype(np.int32)) for a in (ids, mask)] + [Tensor(np.ones(rows, np.float32)), Tensor(columns)]
    found, _ = ms.jit(loss.construct, fullgraph=True)(*inputs)
    np.testing.assert_allclose(float(found.asnumpy()), float(expected.detach()), rtol=1e-5)

    parameters = loss.trainable_params()
    made = ms.jit(ms.grad(Loss(loss), None, parameters), fullgraph=True)(*inputs)
    plan, places = pieces(model), {id(p): key for key, p in model.parameters_and_names()}
    largest = max(float(g.abs().max()) for g in gradients.values())
    seen = set()
    for parameter, gradient in zip(parameters, made, strict=True):
        values = gradient.asnumpy()
        for piece in plan[places[id(parameter)]]:
            key = next(key for key in piece.names if key in gradients)
            want = gradients[key].numpy()
            np.testing.assert_allclose(
                piece.unpack(values[piece.place]), want, rtol=1e-4, atol=1e-5 * largest, err_msg=key
            )
            seen.add(key)
    assert seen == set(gradients)
