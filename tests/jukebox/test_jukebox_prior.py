"""A prior called alone: the loss on sound, and the codes of one window."""

import numpy as np
import pytest

from mindmusicgen import JukeboxPrior, JukeboxPriorConfig, JukeboxVQVAE


@pytest.fixture(scope="module")
def prior(both):
    """The finest prior of the 5b folder."""
    found = both["5b"].model.priors[2]
    found.eager = True
    return found


def test_a_window_is_the_originals(both, prior):
    golden = both["5b"]
    conds, rows = golden["E_codes_1"][:, :12], golden["E_labels_0"][0]
    asked = {"music_tokens_conds": [conds], "metadata": rows, "temp": 0.99, "top_k": 1, "sample_tokens": 12}
    found = prior.sample(2, None, **asked)
    np.testing.assert_array_equal(found.asnumpy(), golden["E_codes_0"][:, :12])
    found = prior.sample(2, golden["E_codes_0"][:, :8], **asked)
    np.testing.assert_array_equal(found.asnumpy(), golden["E_codes_0"][:, :12])


@pytest.mark.parametrize("level", range(3))
def test_the_loss_on_sound(both, level, close):
    golden = both["5b"]
    prior, rng = golden.model.priors[level], np.random.default_rng(level)
    audio = rng.uniform(-1, 1, (2, prior.sample_length, 1)).astype(np.float32)
    rows = golden[f"labels_A_level{2 - level}"]
    sound, loss, metrics = prior(audio, rows, decode=True, get_preds=True)
    assert sound.shape == audio.shape and np.isfinite(loss) and metrics["loss"] == loss
    assert metrics["preds"].shape == (2, prior.n_ctx, 32) and (metrics["encoder_loss"] > 0) == (level == 0)
    total = prior.n_ctx + prior.lyrics
    expected = (0.4 * metrics["encoder_loss"] * prior.lyrics + metrics["bpd"] * prior.n_ctx) / total
    close(np.array([loss]), np.array([expected]), 1e-9)
    assert prior.forward(audio, rows)[0] is None


def test_what_cannot_be_is_refused(both, prior, refused):
    golden = both["5b"]
    rows, empty = golden["E_labels_0"][0], np.zeros((2, 0), np.int32)
    refused(lambda: prior.sample(2, metadata=rows[:, :3]), "metadata is", "(2, n)")
    refused(lambda: prior.sample(2, empty, metadata=rows, top_k=1, top_p=0.5), "top_k is 1 and top_p is 0.5")
    refused(lambda: prior.sample(2, empty, metadata=rows, temp=0), "temp is 0")
    refused(lambda: prior.sample(2, empty, metadata=rows, sample_tokens=49), "at most 48 in all")
    refused(lambda: prior.sample(2, empty, np.zeros((2, 13), np.int32), rows), "music_tokens_conds")
    wrong = rows.copy()
    wrong[:, 3] = 9
    refused(lambda: prior.sample(2, empty, metadata=wrong), "metadata has the artist 9")
    refused(lambda: prior(np.zeros((2, 128, 1), np.float32), rows), "has 128 samples; expected 384")
    alone = JukeboxPrior(prior.config, 2)
    refused(lambda: alone(np.zeros((2, 384, 1), np.float32), rows), "made without a VQ-VAE")
    refused(lambda: JukeboxPrior({}), "expected JukeboxPriorConfig")
    refused(lambda: JukeboxPriorConfig(x=1), "no field 'x'")


def test_networks_of_a_config_alone_have_random_weights(both):
    config = both["5b"].model.config
    for made in (JukeboxPrior(config.prior_configs[0], 0), JukeboxVQVAE(config.vqvae_config)):
        parts = dict(made.parameters_and_names())
        matrices = [one.asnumpy() for one in parts.values() if one.ndim > 1]
        assert all(one.std() > 0.01 for one in matrices)
        assert all((one.asnumpy() == 1).all() for name, one in parts.items() if name.endswith("layer_norm_0.weight"))
    for made in (JukeboxPrior(config.prior_configs[0], 0, empty=True), JukeboxVQVAE(config.vqvae_config, empty=True)):
        assert not any(one.asnumpy().any() for name, one in made.parameters_and_names() if "norm" not in name)
