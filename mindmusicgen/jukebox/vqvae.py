"""Jukebox's VQ-VAE: sound as codes at three levels, each of which can be turned back into sound alone.

Dhariwal et al., arXiv:2005.00341. Levels are numbered from the finest, 0. It runs operation by operation: its clips
have any length, and it takes minutes where the priors take hours.
"""

import math

import numpy as np
from mindspore import Tensor, nn

from ..arguments import as_array
from ..errors import InputError, shown
from ..models.layers import empty_parameter
from ..runtime.callers import serialised
from ..torch_names import Habits
from .config import JukeboxVQVAEConfig, check
from .convolutions import Down, Up, conv
from .initial_weights import initialise

ROWS = 1 << 14  # of distances at a time
PIECE = 1 << 19  # samples that are decoded at a time: 12 s


class Encoder(nn.Cell):
    """Sound to vectors of one level: level + 1 stacks, one after the other."""

    def __init__(self, config, level):
        super().__init__()
        width, depth = (n * config.multipliers[level] for n in (config.res_conv_width, config.res_conv_depth))
        sizes = [config.conv_input_shape] + [config.embed_dim] * level
        self.level_blocks = nn.CellList(
            [Down(config, sizes[i], config.embed_dim, width, depth, config.res_downs_t[i]) for i in range(level + 1)]
        )

    def construct(self, x):
        """[B, samples, 1] -> [B, samples / hop, embed_dim]"""
        for block in self.level_blocks:
            x = block(x)
        return x


class Decoder(nn.Cell):
    """Vectors of one level to sound: the coarsest stack first."""

    def __init__(self, config, level):
        super().__init__()
        width, depth = (n * config.multipliers[level] for n in (config.res_conv_width, config.res_conv_depth))
        self.level_blocks = nn.CellList(
            [Up(config, config.embed_dim, width, depth, config.res_downs_t[i], True) for i in range(level + 1)]
        )
        self.out = conv(config.embed_dim, config.conv_input_shape, 3)

    @property
    def reach(self):
        """How many codes, on either side, a sample looks at."""
        found, rate = 0.0, 1
        for block in reversed(list(self.level_blocks)):
            found += block.reach / rate
            rate *= 2**block.doublings
        return math.ceil(found + 1)

    def construct(self, x):
        """[B, codes, embed_dim] -> [B, codes * hop, 1]"""
        for i in range(len(self.level_blocks)):
            x = self.level_blocks[len(self.level_blocks) - 1 - i](x)
        return self.out(x)


class Codebook(nn.Cell):
    """The vectors that codes stand for."""

    def __init__(self, config):
        super().__init__()
        self.codebook = empty_parameter(config.nb_discrete_codes, config.embed_dim)

    def nearest(self, x):
        """The code whose vector is nearest to each of x [n, embed_dim]: [n] int32, and the squared distances."""
        table, codes, far = self.codebook.asnumpy(), [], []
        for start in range(0, len(x), ROWS):
            part = x[start : start + ROWS]
            distances = (part**2).sum(-1, keepdims=True) - 2 * part @ table.T + (table**2).sum(-1)
            codes.append(distances.argmin(-1).astype(np.int32))
            far.append(distances.min(-1))
        return np.concatenate(codes), np.concatenate(far)


class Bottleneck(nn.Cell):
    """A codebook for each level."""

    def __init__(self, config):
        super().__init__()
        self.level_blocks = nn.CellList([Codebook(config) for _ in range(config.levels)])


class JukeboxVQVAE(Habits, nn.Cell):
    """Sound to codes and back, at three levels; lists have the finest level first.

    Args:
        config (JukeboxVQVAEConfig): sizes; None: those of the published models.
        empty (bool): leave the parameters zeros in place of random weights.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    model_type = JukeboxVQVAEConfig.model_type

    def __init__(self, config=None, *, empty=False):
        super().__init__()
        config = JukeboxVQVAEConfig() if config is None else config
        if not isinstance(config, JukeboxVQVAEConfig):
            raise InputError(f"config is one of {shown(type(config).__name__)}; expected JukeboxVQVAEConfig")
        check(config)
        self.config, self.levels, self.hops = config, config.levels, config.hops
        self.encoders = nn.CellList([Encoder(config, level) for level in range(config.levels)])
        self.decoders = nn.CellList([Decoder(config, level) for level in range(config.levels)])
        self.bottleneck = Bottleneck(config)
        self.set_train(False)
        if not empty:
            initialise(self, 0.2)

    @classmethod
    def from_pretrained(cls, model=None, revision=None, cache_dir=None, local_files_only=False, **habits):
        """Open the VQ-VAE of a whole model's folder, or one in a folder of its own; arguments as in
        `JukeboxModel.from_pretrained`."""
        from .checkpoint.folder import open_vqvae

        return open_vqvae(cls, model, revision, cache_dir, local_files_only, habits)

    def vectors(self, audio, level):
        """What the encoder of a level makes of [B, samples, 1], before the nearest codes are looked for.

        Returns:
            numpy.ndarray: [B, samples / hop, embed_dim] float32.
        """
        return np.concatenate([self.encoders[level](Tensor(row[None])).asnumpy() for row in audio])

    @serialised
    def encode(self, input_audio, start_level=0, end_level=None, bs_chunks=1):
        """Codes of sound.

        Args:
            input_audio (array): [B, samples, 1] from -1 to 1, samples a multiple of the coarsest level's hop.
            start_level (int): the finest level that is wanted.
            end_level (int): the one behind the coarsest.
            bs_chunks (int): rows are encoded one by one in any case.

        Returns:
            list[Tensor]: [B, samples / hop] int32 of each level from start_level on.

        Raises:
            InputError: if that is no such sound, or there are no such levels.
        """
        levels = self._range(start_level, end_level)
        audio = check_audio(input_audio, self.hops[levels[-1]])
        return [Tensor(self._encode(audio, level)) for level in levels]

    def _encode(self, audio, level):
        x = self.vectors(audio, level)
        codes, _ = self.bottleneck.level_blocks[level].nearest(x.reshape(-1, x.shape[-1]))
        return codes.reshape(x.shape[:2])

    @serialised
    def decode(self, music_tokens, start_level=0, end_level=None, bs_chunks=1):
        """Sound of codes, from the finest level that is given; the others are not listened to.

        Args:
            music_tokens (list): of codes [B, n], the first of them those of level start_level.
            start_level (int): the level of the first codes.
            end_level (int): not used, as in transformers.
            bs_chunks (int): rows are decoded one by one in any case.

        Returns:
            Tensor: [B, n * hop, 1] float32, not clamped.

        Raises:
            InputError: if these are no codes of that level.
        """
        level = self._range(start_level, end_level)[0]
        if not isinstance(music_tokens, (list, tuple)) or not len(music_tokens):
            raise InputError(
                f"music_tokens is {shown(music_tokens)}; expected a list of codes, one array for each level"
            )
        codes = check_codes(music_tokens[0], f"music_tokens[0] (level {level})", self.config.nb_discrete_codes)
        return Tensor(np.stack([self._decode_row(row, level) for row in codes]))

    def _decode_row(self, codes, level):
        """Sound [n * hop, 1] of codes [n], piece by piece: each with as many codes around it as it looks at."""
        decoder, hop = self.decoders[level], self.hops[level]
        table = self.bottleneck.level_blocks[level].codebook.asnumpy()
        size, reach, made = max(PIECE // hop, 1), decoder.reach, []
        for start in range(0, len(codes), size):
            first, end = max(start - reach, 0), min(start + size, len(codes))
            x = table[codes[first : min(end + reach, len(codes))]]
            audio = decoder(Tensor(x[None])).asnumpy()[0]
            made.append(audio[(start - first) * hop : (end - first) * hop])
        return np.concatenate(made)

    def _range(self, start, end):
        """The levels from start to end."""
        end = self.levels if end is None else end
        if (
            any(isinstance(n, bool) or not isinstance(n, int) for n in (start, end))
            or not 0 <= start < end <= self.levels
        ):
            raise InputError(
                f"start_level {shown(start)} and end_level {shown(end)} name no levels; expected 0 to {self.levels}, "
                "0 is the finest"
            )
        return range(start, end)

    @serialised
    def construct(self, raw_audio):
        """Encode sound, and decode it from each level.

        Args:
            raw_audio (array): [B, samples, 1].

        Returns:
            list[Tensor]: the sound of each level, [B, samples, 1]; and the commit loss, a number.
        """
        audio, made, loss = check_audio(raw_audio, self.hops[-1]), [], 0.0
        for level in range(self.levels):
            x = self.vectors(audio, level)
            codes, far = self.bottleneck.level_blocks[level].nearest(x.reshape(-1, x.shape[-1]))
            loss += float(far.sum()) / x.size
            made.append(Tensor(np.stack([self._decode_row(row, level) for row in codes.reshape(x.shape[:2])])))
        return made, self.config.commit * loss


def check_audio(audio, multiple):
    """Sound as an array [B, samples, 1] float32.

    Raises:
        InputError: if it has another shape, is not finite, or has a length that the hop does not divide.
    """
    found = as_array("the audio", audio, 3)
    if found.shape[2] != 1 or found.dtype.kind not in "fiu":
        raise InputError(f"the audio is {shown(audio)}; expected mono of shape (clips, samples, 1)")
    found = found.astype(np.float32)
    if not found.size or not np.isfinite(found).all():
        raise InputError("the audio is empty, or holds NaN or infinity; expected samples from -1 to 1")
    if found.shape[1] % multiple:
        raise InputError(f"the audio has {found.shape[1]} samples; expected a multiple of {multiple}, those of a code")
    return found


def check_codes(codes, what, end):
    """Codes as an array [B, n] int32.

    Args:
        codes (array): as given.
        what (str): what to call them in errors.
        end (int): how many codes there are.

    Raises:
        InputError: if they are no whole numbers of that range, or have another shape.
    """
    found = as_array(what, codes, 2)
    if found.dtype.kind not in "iu" and found.size:
        raise InputError(f"{what} is {shown(codes)}; expected whole numbers of shape (samples, codes)")
    if found.size and not (found.min() >= 0 and found.max() < end):
        raise InputError(f"{what} holds codes from {found.min()} to {found.max()}; expected 0 to {end - 1}")
    return found.astype(np.int32)
