"""A prior called alone, as transformers' JukeboxPrior is: the loss on sound, and the codes of one window."""

import numpy as np
from mindspore import Tensor

from ..arguments import as_array, number
from ..errors import InputError, shown, whole_number
from ..generation.sampling import COLDEST, HOTTEST
from ..runtime.callers import alone, serialised
from .decode_loop import PriorGraphs
from .labels import Window, time_bins
from .sampling import OFF, uniforms
from .vqvae import check_audio, check_codes


def window_of(prior, metadata, samples):
    """The labels of a window from the rows that transformers takes, [samples, 4 + genres + lyrics]: total length,
    offset and length in samples, artist, genres, and the characters that are read."""
    rows = as_array("metadata", metadata, 2)
    least = 5 + prior.lyrics
    if rows.dtype.kind not in "iu" or len(rows) not in (1, samples) or rows.shape[1] < least:
        raise InputError(
            f"metadata is {shown(metadata)}; expected whole numbers of shape ({samples}, n), n at least {least}: total "
            "length, offset, length, artist, genres and lyrics"
        )
    rows = np.repeat(rows, samples // len(rows), 0)
    end, timed = rows.shape[1] - prior.lyrics, (None,) * 3
    if prior.level == 0:
        bins = [time_bins(prior.config, *map(int, row[:3])) for row in rows]
        timed = (np.concatenate(part).astype(np.int32) for part in zip(*bins, strict=True))
    artist, genres, lyrics = (part.astype(np.int32) for part in (rows[:, 3], rows[:, 4:end], rows[:, end:]))
    for what, part, first, limit in (
        ("artist", artist, 0, prior.config.metadata_dims[1]),
        ("genre", genres, -1, prior.config.metadata_dims[0]),
        ("character", lyrics, 0, prior.config.lyric_vocab_size),
    ):
        if part.size and not first <= part.min() <= part.max() < limit:
            raise InputError(f"metadata has the {what} {part.min()} or {part.max()}; expected {first} to {limit - 1}")
    return Window(artist, genres, lyrics, lyrics, *timed, *map(int, rows[0, :3]))


def _upper(prior, codes, samples):
    """The codes above a window, padded; None for the top prior."""
    if not prior.level:
        return None
    codes = codes[0] if isinstance(codes, (list, tuple)) and len(codes) else codes
    found = check_codes(np.zeros((samples, 0)) if codes is None else codes, "music_tokens_conds", _end(prior))
    wanted = prior.n_ctx // prior.cond_downsample
    if len(found) != samples or found.shape[1] > wanted:
        raise InputError(f"music_tokens_conds are {shown(codes)}; expected at most ({samples}, {wanted})")
    return np.pad(found, ((0, 0), (0, wanted - found.shape[1]))).astype(np.int32)


def _end(prior):
    return prior.config.music_vocab_size


def sample(
    self,
    n_samples,
    music_tokens=None,
    music_tokens_conds=None,
    metadata=None,
    temp=1.0,
    top_k=0,
    top_p=0.0,
    chunk_size=None,
    sample_tokens=None,
    *,
    seed=0,
):
    """The codes of one window.

    Args:
        n_samples (int): how many samples.
        music_tokens (array): its first codes, [n_samples, n]; None: none.
        music_tokens_conds (list): the codes above the window, [n_samples, m]; missing ones are 0.
        metadata (array): [n_samples, 4 + genres + lyrics], as `labels.Window.rows` gives.
        temp (float), top_k (int), top_p (float): how codes are chosen; 0 switches the last two off.
        chunk_size (int): not used: known codes pass at once.
        sample_tokens (int): codes of the window, the known ones included; None: all.
        seed (int): sample i uses seed + i.

    Returns:
        Tensor: [n_samples, sample_tokens] int32.

    Raises:
        InputError: naming the argument that cannot be used.
    """
    samples = whole_number("n_samples", n_samples, 1)
    known = check_codes(np.zeros((samples, 0)) if music_tokens is None else music_tokens, "music_tokens", _end(self))
    count = self.n_ctx if sample_tokens is None else whole_number("sample_tokens", sample_tokens, 1)
    if len(known) != samples or not known.shape[1] < count <= self.n_ctx:
        raise InputError(
            f"music_tokens have the shape {known.shape} for {samples} samples of {count} codes; expected one row "
            f"for each, shorter than that, and at most {self.n_ctx} in all"
        )
    if top_k and top_p:
        raise InputError(f"top_k is {top_k} and top_p is {top_p}; give one of them")
    window, upper = window_of(self, metadata, samples), _upper(self, music_tokens_conds, samples)
    ids = _end(self) + self.shift
    filters = (
        Tensor(np.array([number("temp", temp, COLDEST, HOTTEST)], np.float32)),
        Tensor(np.array([min(whole_number("top_k", top_k, 0) or ids, ids)], np.int32)),
        Tensor(np.array([number("top_p", top_p, 0, 1) or OFF], np.float32)),
    )
    have, first = known.shape[1], whole_number("seed", seed, 0)
    drawn = np.stack([uniforms(first + i, self.level, have, count - have) for i in range(samples)], 1)
    with alone() as interrupts:
        graphs = graphs_of(self, samples)
        newest, position = graphs.begin(window, upper, known)
        made = [known.T]
        for columns in graphs.steps(newest, position, count - have, drawn, filters):
            interrupts.check()
            made.append(np.maximum(columns - self.shift, 0))
    return Tensor(np.concatenate(made).T.astype(np.int32))


def graphs_of(prior, samples):
    """The graphs of a prior that is called alone, for one number of samples at a time."""
    if samples not in prior.made:
        prior.made = {samples: PriorGraphs(prior, samples, eager=prior.eager)}
    return prior.made[samples]


def bits(logits, ids):
    """The mean of -log2 of the probability of each id: logits [n, V], ids [n]."""
    logits = logits.astype(np.float64)
    highest = logits.max(-1, keepdims=True)
    total = np.log(np.exp(logits - highest).sum(-1)) + highest[:, 0]
    return float((total - logits[np.arange(len(ids)), ids]).mean() / np.log(2))


def losses(prior, logits, states, codes, lyrics):
    """(loss, music, lyrics) in bits; lyrics 0 where there are none.

    Args:
        prior (JukeboxPrior): the network.
        logits (numpy.ndarray): of every position, [B, T, V].
        states (numpy.ndarray): logits of characters of the network that reads the lyrics, or None.
        codes, lyrics (numpy.ndarray): [B, n_ctx] and [B, k] int32.
    """
    count, vocabulary = prior.before, logits.shape[2]
    music = bits(logits[:, count:].reshape(-1, vocabulary), (codes + prior.shift).reshape(-1))
    text = 0.0
    if count:
        text = bits(logits[:, :count].reshape(-1, vocabulary), lyrics.reshape(-1))
    elif states is not None:
        text = bits(states.reshape(-1, states.shape[2]), lyrics.reshape(-1))
    total = prior.n_ctx + prior.lyrics
    loss = prior.config.encoder_loss_fraction * text * prior.lyrics / total + music * prior.n_ctx / total
    return loss, music, text


@serialised
def call(self, hidden_states, metadata=None, decode=False, get_preds=False):
    """How well a prior knows some sound.

    Args:
        hidden_states (array): [B, samples, 1] of one window: n_ctx codes of this level.
        metadata (array): [B, 4 + genres + lyrics], as `labels.Window.rows` gives.
        decode (bool): return the sound of its codes as well.
        get_preds (bool): return logits among the metrics, [B, positions, ids].

    Returns:
        tuple: the sound [B, samples, 1] or None, the loss in bits, and a dict: bpd, encoder_loss,
        next_token_prediction_loss, loss, and preds where asked for.

    Raises:
        InputError: if that is no such sound, or the prior was made without a VQ-VAE.
    """
    if self.vqvae_encoder is None:
        raise InputError("this prior was made without a VQ-VAE; take it from a JukeboxModel, or give vqvae_encoder")
    audio, level = check_audio(hidden_states, self.raw_to_tokens), self.nb_priors - 1 - self.level
    if audio.shape[1] != self.sample_length:
        raise InputError(f"the audio has {audio.shape[1]} samples; expected {self.sample_length}, those of a window")
    codes = [one.asnumpy() for one in self.vqvae_encoder(audio, level, level + (2 if self.level else 1))]
    window = window_of(self, metadata, len(audio))
    upper = Tensor(codes[1]) if self.level else None
    timed = [None if one is None else Tensor(one) for one in (window.total, window.absolute, window.relative)]
    condition = self.condition(upper, *timed)
    lyrics, artist, genres = (Tensor(one) for one in (window.lyrics, window.artist, window.genres))
    logits = self.construct(Tensor(codes[0]), lyrics, artist, genres, condition).asnumpy()
    states = None if self.encoder is None else self.encoder.lm_head(self.encoder(lyrics)).asnumpy()
    loss, music, text = losses(self, logits, states, codes[0], window.lyrics)
    metrics = {"bpd": music, "encoder_loss": text, "next_token_prediction_loss": music, "loss": loss}
    if get_preds:
        metrics["preds"] = Tensor(logits)
    sound = self.vqvae_decoder([Tensor(codes[0])], level) if decode else None
    return sound, loss, metrics
