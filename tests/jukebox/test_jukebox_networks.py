"""The networks against the original program: codes identical, sound, conditions and logits to rounding."""

import numpy as np
import pytest
from mindspore import Tensor

from mindmusicgen.jukebox import vqvae as rooms
from mindmusicgen.jukebox.labels import time_bins
from mindmusicgen.jukebox.prior_calls import losses
from mindmusicgen.jukebox.vqvae import JukeboxVQVAE

PRIORS = ("top", "middle", "bottom")


@pytest.mark.parametrize("level", range(3))
def test_codes_and_sound_of_a_level(both, level, close):
    golden = both["1b"]
    vqvae, audio = golden.model.vqvae, golden["vq_audio"][..., None]
    close(vqvae.vectors(audio, level), golden[f"vq_hidden_{level}"], 1e-5)
    codes = vqvae.encode(audio, level, level + 1)[0]
    np.testing.assert_array_equal(codes.asnumpy(), golden[f"vq_codes_{level}"])
    close(vqvae.decode([codes], start_level=level).asnumpy()[..., 0], golden[f"vq_audio_from_{level}"], 1e-5)


def test_pieces_join_exactly(both, monkeypatch, close):
    golden = both["1b"]
    codes = np.random.default_rng(0).integers(0, 32, (1, 400)).astype(np.int32)
    whole = golden.model.vqvae.decode([codes], 1).asnumpy()
    monkeypatch.setattr(rooms, "PIECE", 32 * 100)
    close(golden.model.vqvae.decode([codes], 1).asnumpy(), whole, 1e-6)


def test_the_vqvae_alone(both):
    vqvae = JukeboxVQVAE.from_pretrained(both["1b"].folder)
    assert vqvae.decode([np.zeros((4, 1), np.int32)]).shape == (4, 8, 1)  # as the page's example
    made, loss = vqvae(both["1b"]["vq_audio"][:1, :256, None])
    assert [one.shape for one in made] == [(1, 256, 1)] * 3 and loss > 0


@pytest.mark.parametrize("level", range(3))
def test_logits_of_every_position(golden, level, close):
    prior, name = golden.model.priors[level], PRIORS[level]
    rows, lyrics = golden[f"{name}_labels"], prior.lyrics
    timing = (np.repeat(one, 2, 0) for one in time_bins(prior.config, *map(int, rows[0, :3])))
    upper = Tensor(golden[f"{name}_upper_codes"]) if level else None
    condition = prior.condition(upper, *map(Tensor, timing))
    close(condition.asnumpy(), golden[f"{name}_{'conditioner_output' if level else 'time_embedding'}"], 1e-5)
    end = rows.shape[1] - lyrics
    artist, genres, text = Tensor(rows[:, 3]), Tensor(rows[:, 4:end]), Tensor(rows[:, end:])
    start = prior.metadata_embedding.start(artist, genres).asnumpy()
    close(start, golden[f"{name}_start_embedding"][:, 0], 1e-6)
    if prior.encoder is not None:
        close(prior.encoder(text).asnumpy(), golden["top_lyric_states"], 1e-5)
    found = prior.construct(Tensor(golden[f"{name}_codes"]), text, artist, genres, condition).asnumpy()
    close(found, golden[f"{name}_logits"], 1e-5)
    states = None if prior.encoder is None else prior.encoder.lm_head(prior.encoder(text)).asnumpy()
    counted = losses(prior, found, states, golden[f"{name}_codes"], text.asnumpy())
    expected = golden[f"{name}_losses_bits"]
    close(np.array(counted[: len(expected)]), expected, 1e-5)


def test_bad_sound_and_codes(both, refused):
    vqvae = both["1b"].model.vqvae
    refused(lambda: vqvae.encode(np.zeros((1, 256, 2), np.float32)), "expected mono")
    refused(lambda: vqvae.encode(np.zeros((1, 200, 1), np.float32)), "multiple of 128")
    refused(lambda: vqvae.encode(np.full((1, 128, 1), np.nan, np.float32)), "NaN or infinity")
    refused(lambda: vqvae.decode([np.full((1, 4), 32)]), "codes from 32 to 32; expected 0 to 31")
    refused(lambda: vqvae.decode([np.zeros((1, 4))]), "expected whole numbers")
    refused(lambda: vqvae.decode([np.zeros((1, 4), np.int32)], start_level=3), "start_level 3")
    refused(lambda: vqvae.decode(3), "music_tokens is 3")
