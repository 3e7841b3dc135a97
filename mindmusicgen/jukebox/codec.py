"""Jukebox's VQ-VAE where codes are all that is wanted, and its three levels in one array, as files of codes hold them.

In a file a code of the top level has below it those that stand for the same samples: 4 of the middle level, then 16 of
the finest. So a piece is [1, frames] with the top level alone, [5, frames] with two, [21, frames] with all three.
"""

import numpy as np
from mindspore import Tensor

from ..errors import InputError
from ..sound.samples import as_batch
from .checkpoint.folder import fill, open_folder
from .vqvae import JukeboxVQVAE


def packed(codes, raws):
    """One array of the levels that there are.

    Args:
        codes (list[numpy.ndarray]): [B, n] of each level, the top first; those that are not complete are left out.
        raws (list[int]): samples of a code of each.

    Returns:
        numpy.ndarray: [B, rows, frames] int32.
    """
    frames = codes[0].shape[1]
    there = [(one, raws[0] // raw) for one, raw in zip(codes, raws, strict=False)]
    there = [(one, ratio) for one, ratio in there if one.shape[1] == frames * ratio]
    rows = [one.reshape(len(one), frames, ratio).transpose(0, 2, 1) for one, ratio in there]
    return np.concatenate(rows, 1).astype(np.int32)


def unpacked(codes, raws):
    """The levels of one array; those that it does not hold are empty.

    Args:
        codes (numpy.ndarray): [B, rows, frames].
        raws (list[int]): samples of a code of each level.

    Returns:
        list[numpy.ndarray]: [B, n] int32 of each level.

    Raises:
        InputError: if there are no levels with so many rows.
    """
    counts, found, first = [raws[0] // raw for raw in raws], [], 0
    wanted = np.cumsum(counts).tolist()
    if codes.shape[1] not in wanted:
        raise InputError(
            f"the codes have {codes.shape[1]} rows; expected {' or '.join(map(str, wanted))}: one, two, or all levels"
        )
    for count in counts:
        rows = codes[:, first : first + count] if first < codes.shape[1] else codes[:, :0]
        found.append(np.ascontiguousarray(rows.transpose(0, 2, 1)).reshape(len(codes), -1).astype(np.int32))
        first += count
    return found


class JukeboxCodec:
    """Sound to codes of all levels in one array, and back.

    Args:
        config (JukeboxConfig): of the whole model.
        network (JukeboxVQVAE): opened.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    channels = 1

    def __init__(self, config, network):
        self.config, self.network, self.raws = config, network, config.raws

    @property
    def sampling_rate(self):
        """Samples per second of the sound."""
        return self.config.sampling_rate

    @property
    def frame_rate(self):
        """Codes of the top level per second."""
        return self.config.frame_rate

    def encode(self, audio):
        """Sound [B, 1, samples] to codes [B, rows, frames]; what is over a multiple of the top level's hop is cut off.

        Raises:
            InputError: if it is shorter than that.
        """
        audio = as_batch("audio", audio, 1)
        whole = audio.shape[2] // self.raws[0] * self.raws[0]
        if not whole:
            raise InputError(
                f"the audio has {audio.shape[2]} samples; expected at least {self.raws[0]}, those of a code"
            )
        codes = self.network.encode(audio[:, 0, :whole, None], 0, self.config.nb_priors)
        return packed([one.asnumpy() for one in codes[::-1]], self.raws)

    def decode(self, codes):
        """Codes [B, rows, frames] to sound [B, 1, samples], of the finest level that they hold."""
        levels = unpacked(np.asarray(codes), self.raws)
        finest = max(i for i, one in enumerate(levels) if one.shape[1])
        audio = self.network.decode([levels[finest]], self.config.nb_priors - 1 - finest)
        return Tensor(np.clip(audio.asnumpy(), -1, 1).transpose(0, 2, 1))


def open_codec(folder, cache_dir=None, local_files_only=False):
    """The VQ-VAE of a model folder alone; arguments as in `load_config`.

    Returns:
        JukeboxCodec

    Raises:
        InputError: if it cannot be opened.
    """
    config, tensors = open_folder(folder)
    network = JukeboxVQVAE(config.vqvae_config, empty=True)
    fill(network, tensors, "vqvae.", folder)
    return JukeboxCodec(config, network)
