"""Training the text encoder and the decoder on delayed codes.

Paper: "Simple and Controllable Music Generation" (Copet et al., 2023): cross-entropy of every codebook, and captions
dropped at random so that one network learns both rows of classifier-free guidance.
"""

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from ...models.layers import additive_mask
from ...ops.indices import indices
from .. import delay_pattern
from ..loss import CodebookCrossEntropy
from .network import decoder_losses


class LanguageModelLoss(nn.Cell):
    """Mean cross-entropy of the next column, for a composite model.

    Args:
        model (MusicgenForConditionalGeneration): text encoder, conditioner and decoder are trained, the codec is not.
        train_text (bool): whether the text encoder is trained too.

    Inputs:
        - **input_ids**, **attention_mask** (Tensor) - captions, [B, S] int32.
        - **heard** (Tensor) - [B] float32, 0 where the caption is dropped.
        - **columns** (Tensor) - delayed codes from `delayed_columns`, [B, K, T + 1] int32.

    Outputs:
        loss, and the cross-entropy of each codebook.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, model, train_text=True):
        super().__init__(auto_prefix=False)  # parameters keep the model's names, whichever cell uses them
        self.text_encoder, self.conditioner, self.decoder = model.text_encoder, model.conditioner, model.decoder
        for parameter in self.text_encoder.get_parameters():
            parameter.requires_grad = train_text
        self.cross_entropy = CodebookCrossEntropy(model.config.decoder.vocab_size)
        self.fused = decoder_losses(model.decoder)
        self.metric_names = ("loss", *(f"codebook {k}" for k in range(model.config.decoder.num_codebooks)))

    def construct(self, input_ids, attention_mask, heard, columns):
        mask = attention_mask.astype(ms.float32) * heard.expand_dims(-1)
        states = self.conditioner(self.text_encoder.construct(input_ids, attention_mask), mask)
        order = indices(0, columns.shape[2] - 1)
        known, labels = ops.gather(columns, order, 2), ops.gather(columns, order + 1, 2)
        if self.fused is not None:
            losses = self.fused(known, states, additive_mask(mask), labels)
        else:
            hidden = additive_mask(mask).reshape(mask.shape[0], 1, 1, mask.shape[1])
            x, _ = self.decoder.construct(known, self.decoder.cross_keys_values(states), hidden)
            losses = self.cross_entropy(self.decoder.logits(x), labels)
        parts = ()
        for k in range(labels.shape[1]):
            parts += (losses[k],)
        return losses.mean(), parts


def delayed_columns(codes, frames, pad, audio_channels=1):
    """Codes of clips as the decoder sees them in training.

    Args:
        codes (Sequence[numpy.ndarray]): [K, frames of the clip] each.
        frames (int): length that all are cut or padded to.
        pad (int): the start and padding code.
        audio_channels (int): 1, or 2 for interleaved stereo.

    Returns:
        numpy.ndarray: [B, K, frames + K / channels] int32, the start column included.
    """
    batch = np.full((len(codes), codes[0].shape[0], frames), pad, np.int32)
    for row, clip in zip(batch, codes, strict=True):
        length = min(frames, clip.shape[1])
        row[:, :length] = clip[:, :length]
    length = 1 + delay_pattern.columns_for(frames, batch.shape[1], audio_channels)
    return delay_pattern.build_pattern(batch, length, pad, audio_channels)[0]


class CaptionedCodes:
    """Clips as codes with their captions, from which batches are drawn.

    Args:
        codes (Sequence[numpy.ndarray]): [K, frames] each.
        captions (Sequence[Sequence[tuple]]): for each clip its captions as (input_ids, attention_mask), both [S].
        frames (int): frames of a training clip.
        pad (int): the start and padding code.
        rows (int): clips in a batch.
        dropout (float): part of the captions that is dropped.
        audio_channels (int): 1, or 2 for interleaved stereo.
        seed (int): of the order and the dropping.
    """

    def __init__(self, codes, captions, frames, pad, rows=8, dropout=0.15, audio_channels=1, seed=0):
        self.codes, self.captions, self.frames, self.pad = codes, captions, frames, pad
        self.rows, self.dropout, self.audio_channels, self.seed = rows, dropout, audio_channels, seed

    def chosen(self, step):
        """The clips of a step: every clip once before any comes again."""
        found = []
        for place in range(step * self.rows, (step + 1) * self.rows):
            epoch, index = divmod(place, len(self.codes))
            found.append(int(np.random.default_rng([self.seed, 1, epoch]).permutation(len(self.codes))[index]))
        return found

    def clip(self, step, i):
        """The codes of clip i as they are used in a step."""
        return self.codes[i]

    def batch(self, step):
        """The inputs of `LanguageModelLoss` for a step."""
        rng, chosen = np.random.default_rng([self.seed, step]), self.chosen(step)
        texts = [self.captions[i][rng.integers(len(self.captions[i]))] for i in chosen]
        ids, mask = (np.stack([text[part] for text in texts]).astype(np.int32) for part in (0, 1))
        heard = (rng.random(self.rows) >= self.dropout).astype(np.float32)
        columns = delayed_columns([self.clip(step, i) for i in chosen], self.frames, self.pad, self.audio_channels)
        return ids, mask, heard, columns
