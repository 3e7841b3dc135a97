"""Which characters of the lyrics the top prior looks at while it writes each code.

One head of one layer follows the words. Its weights are computed window by window, as openai/jukebox does, and put
where the characters stand in the whole lyrics; where windows overlap, the earlier one counts.
"""

import numpy as np
from mindspore import Tensor

from ..errors import InputError
from ..language import said
from ..runtime.progress import progress_bar, someone_watches
from ..runtime.telling import tell
from .labels import window_starts
from .sampling import rows_of

READING = ("prime", "cross")  # kinds of attention whose keys are the lyrics


def alignment_place(config):
    """The layer and the head whose attention is taken: those of the config, if they read lyrics.

    The published 1b model's config names layer 68 and head 2, which are the 5b model's; its own are 63 and 0.

    Args:
        config (JukeboxPriorConfig): of a top prior.

    Returns:
        tuple[int]: layer and head.

    Raises:
        InputError: if no layer reads lyrics.
    """
    layers = [layer for layer, kind in enumerate(config.kinds) if kind in READING]
    if not layers or not config.nb_relevant_lyric_tokens:
        raise InputError(
            f"no layer of prior 0 reads lyrics alone (attention_pattern {config.attention_pattern}, num_layers "
            f"{config.num_layers}), so there is no alignment; expected a model of lyrics with at least 16 layers"
        )
    layer, head = config.alignment_layer, config.alignment_head
    own = layer in layers and type(head) is int and 0 <= head < config.n_heads
    return (layer, head) if own else (layers[-1], 0)


def lyric_weights(prior, window, codes, layer, head):
    """How much the codes of a window attend to its characters.

    Args:
        prior (JukeboxPrior): a top prior.
        window (labels.Window): labels of B samples.
        codes (numpy.ndarray): [B, n_ctx] int32.
        layer, head (int): whose attention.

    Returns:
        numpy.ndarray: [B, n_ctx, characters] float32; rows sum to 1, less what goes to the codes beside the lyrics.
    """
    net = prior.prior
    artist, genres, lyrics, total, absolute, relative, codes = (
        Tensor(np.ascontiguousarray(one))
        for one in (window.artist, window.genres, window.lyrics, window.total, window.absolute, window.relative, codes)
    )
    condition = prior.everywhere(prior.condition(None, total, absolute, relative))
    start = prior.metadata_embedding.start(artist, genres).astype(prior.dtype)
    states = prior.states(lyrics)
    x = net.embed(prior.sequence(lyrics, codes), start, condition)
    for one in net.layers[:layer]:
        x = one(x, states)
    attention = net.layers[layer].attn
    q, k, _ = (one.asnumpy().astype(np.float32) for one in attention.project(net.layers[layer].layer_norm_0(x), states))
    own = slice(head * attention.size, (head + 1) * attention.size)
    q, k = q[:, prior.before :, own], k[:, : attention.read, own]
    scores = q @ k.swapaxes(1, 2) * np.float32(attention.size**-0.5)
    if prior.before:  # behind the characters there are a few codes, of which only those before a query are seen
        seen = np.arange(k.shape[1]) <= np.arange(prior.before, prior.before + q.shape[1])[:, None]
        scores = np.where(seen, scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return (weights / weights.sum(-1, keepdims=True))[:, :, : prior.lyrics]


def align(prior, request, codes, check=lambda: None, show=None):
    """The alignment of codes of the top level.

    Args:
        prior (JukeboxPrior): the top prior.
        request (settings.Request): what they were made with.
        codes (numpy.ndarray): [samples, n] int32.
        check (callable): called before every window of every sample; may raise.
        show (bool): whether to show a bar; None asks `someone_watches`.

    Returns:
        list[numpy.ndarray]: of each sample [codes, characters of its whole lyrics] float32.

    Raises:
        InputError: if the prior reads no lyrics.
    """
    layer, head = place = alignment_place(prior.config)
    named = prior.config.alignment_layer, prior.config.alignment_head
    if place != named:
        tell(
            said(
                f"the config's alignment_layer {named[0]} and alignment_head {named[1]} read no lyrics; layer {layer} "
                "and head 0 are taken"
            ),
            error=True,
        )
    labels, n_ctx = request.labels[0], prior.n_ctx
    count = codes.shape[1]
    codes = np.pad(codes, ((0, 0), (0, max(n_ctx - count, 0))))
    made = [np.zeros((codes.shape[1], len(text) + 1), np.float32) for text in labels.lyrics]  # one more: no character
    starts = window_starts(codes.shape[1], n_ctx, request.hops[0])
    hidden = not (someone_watches() if show is None else show)
    with progress_bar(total=len(starts) * len(made), desc="alignment", disable=hidden, leave=False) as bar:
        for start in reversed(starts):
            window = labels.window(start, request.total_length, request.offset)
            for row, one in enumerate(made):  # singly: a window of a large model takes its share of memory
                check()
                own = np.array([row])
                weights = lyric_weights(prior, rows_of(window, own), codes[own, start : start + n_ctx], layer, head)
                one[start : start + n_ctx, window.positions[row]] = weights[0]
                bar.update()
    return [one[:count, :-1] for one in made]
