"""What a call of a melody model's `generate` was given, checked and brought into the shapes that the graphs take."""

import dataclasses
from dataclasses import dataclass

import numpy as np
from mindspore import Tensor

from ...arguments import as_array
from ...errors import InputError
from ...generation.decode_loop import TEXT_BUCKETS
from .. import inputs, settings
from ..delay_pattern import columns_for
from .chroma import HOP_LENGTH

TEXT = ("input_ids", "negative_input_ids")


@dataclass(frozen=True)
class MelodyRequest(inputs.Request):
    """A checked call of a melody model.

    Attributes:
        chroma (numpy.ndarray): of each piece's melody, [B, n, N] float32, of any length n.
        heard (int): chroma frames that a window of the model hears.
        rate (float): chroma frames for each frame of codes.
        tokens (int): positions of the text, the padding to the longest prompt included, that to the bucket not.
    """

    chroma: np.ndarray
    heard: int
    rate: float
    tokens: int

    def chroma_from(self, frame):
        """What a window hears that begins at a frame of codes: [B, heard, N], with guidance null rows behind them.

        A melody that ends begins again. In the first window that is what transformers does; a further one hears the
        melody from where the window lies, as in audiocraft.
        """
        places = (round(frame * self.rate) + np.arange(self.heard)) % self.chroma.shape[1]
        chroma = self.chroma[:, places]
        if not self.settings.guided:
            return chroma
        return np.concatenate([chroma, np.broadcast_to(null_chroma(1, chroma.shape[2]), chroma.shape)])


def null_chroma(rows, num_chroma):
    """What stands for no melody: the first pitch class, [rows, 1, num_chroma]."""
    chroma = np.zeros((rows, 1, num_chroma), np.float32)
    chroma[:, :, 0] = 1
    return chroma


def prepare(model, text, audio, generation_config, arguments, seed):
    """Check a call.

    Args:
        model (MusicgenMelodyForConditionalGeneration): whose networks encode text and audio.
        text (dict): as in `inputs.prepare`; may hold nothing where there is a melody.
        audio (dict): as in `inputs.prepare`.
        generation_config (transformers.GenerationConfig): defaults.
        arguments (dict): input_features, and see `settings.PASSED_ON`.
        seed (int | Sequence[int]): see `settings.resolve_seeds`.

    Returns:
        MelodyRequest

    Raises:
        InputError: naming the argument, what is wrong and what would be right.
    """
    chroma = checked_chroma(model.config, arguments.get("input_features"))
    arguments = {name: value for name, value in arguments.items() if name != "input_features"}
    settings.check(model.config, generation_config, arguments)
    inputs.check_masks(text)
    prompt = inputs.prompt_codes(model, **audio)
    worded = any(text[name] is not None for name in ("input_ids", "encoder_outputs", "negative_input_ids"))
    if not worded and chroma is None:
        if prompt is None:
            raise InputError("generate needs input_ids or input_features from the processor, or encoder_outputs")
        arguments = arguments | {"guidance_scale": 1.0}  # there is nothing to be guided to
    copies = settings.sequences_per_prompt(generation_config, arguments)
    guided = max(settings.guidance_of(generation_config, arguments)) > 1
    if worded:
        states, mask, pairs = inputs.text_states(model, guided, **text)
    else:
        states, mask, pairs = *_no_text(model, chroma if prompt is None else prompt), False
    rows, tokens = len(mask) // 2 if pairs else len(mask), _positions(text)
    chroma = _chroma_of_rows(chroma, rows, model.config.num_chroma)
    room = _room_behind(model.config, tokens)
    frames = 0 if prompt is None else prompt.shape[2]
    settings.check_prompt(room, frames)
    chosen = settings.resolve(room, generation_config, arguments, rows * copies, frames, seed)
    prompt = inputs.prompt_of_rows(prompt, rows, model.config.decoder.num_codebooks)
    if copies > 1:
        states, mask = (Tensor(np.repeat(value.asnumpy(), copies, axis=0)) for value in (states, mask))
        prompt, chroma = (np.repeat(value, copies, axis=0) for value in (prompt, chroma))
    rate = model.config.audio_encoder.sampling_rate / HOP_LENGTH / model.config.audio_encoder.frame_rate
    return MelodyRequest(states, mask, prompt, chosen, chroma, model.config.chroma_length, rate, tokens)


def checked_chroma(config, input_features):
    """Chroma as an array [B, n, N] float32, None for None.

    Raises:
        InputError: for another shape, or numbers that are not finite.
    """
    if input_features is None:
        return None
    chroma = as_array("input_features", input_features, 3).astype(np.float32)
    if chroma.shape[2] != config.num_chroma or not chroma.size:
        raise InputError(f"input_features has shape {chroma.shape}; expected (batch, frames, {config.num_chroma})")
    if not np.isfinite(chroma).all():
        raise InputError("input_features holds numbers that are not finite; expected what the processor makes of audio")
    return chroma


def _no_text(model, like):
    """States and mask that stand for no text, for as many rows: one vector of zeros, all of it masked."""
    shape = (len(like), TEXT_BUCKETS[0])
    states = np.zeros((*shape, model.config.text_encoder.hidden_size), np.float32)
    return Tensor(states), Tensor(np.zeros(shape, np.int32))


def _positions(text):
    """How many positions the text takes."""
    if text["encoder_outputs"] is not None:
        return text["encoder_outputs"][0].shape[1]
    return max((np.shape(text[name])[1] for name in TEXT if text[name] is not None), default=1)


def _chroma_of_rows(chroma, rows, num_chroma):
    """One melody for each row; none is the null chroma."""
    if chroma is None:
        return null_chroma(rows, num_chroma)
    if len(chroma) not in (1, rows):
        raise InputError(f"there are {len(chroma)} melodies for {rows} prompts; give one, or one each")
    return np.repeat(chroma, rows // len(chroma), axis=0)


def _room_behind(config, tokens):
    """The sizes that `settings` asks a config for, with the positions that the prefix leaves for codes."""
    decoder, prefix = config.decoder, config.chroma_length + tokens
    left = decoder.max_position_embeddings - prefix
    if left < columns_for(2, decoder.num_codebooks, decoder.audio_channels):
        raise InputError(
            f"the text has {tokens} tokens, which with {config.chroma_length} frames of melody leave no room for music "
            f"among the model's {decoder.max_position_embeddings} positions; shorten it"
        )
    return dataclasses.replace(settings.Sizes.of(config), positions=left)
