"""What a call of `generate` was given, checked and brought into the shapes that the graphs take.

Everything here ends in a `Request`: text states, mask, the codes to start with, and settings, one row per piece.
"""

from dataclasses import dataclass

import numpy as np
from mindspore import Tensor

from ..arguments import as_array, as_mask, as_whole, belongs
from ..errors import InputError, whole_number
from ..generation.decode_loop import TEXT_BUCKETS, bucket
from ..sound.samples import SILENCE, as_batch
from . import settings


@dataclass(frozen=True)
class Request:
    """A checked call.

    Attributes:
        states (Tensor): text states, [R, S, text dim]; with guidance null rows may stand behind the pieces' rows.
        mask (Tensor): [R, S] int32.
        prompt (numpy.ndarray): codes to start with, [B, K, frames] int32.
        settings (Settings): how to go on.
    """

    states: Tensor
    mask: Tensor
    prompt: np.ndarray
    settings: settings.Settings


def unconditional_inputs(text_dim, num_samples):
    """One zero vector per sample, all of it masked.

    Args:
        text_dim (int): width of the text states.
        num_samples (int): pieces to make.

    Returns:
        UnconditionalInputs

    Raises:
        InputError: if num_samples is not a whole number above 0.
    """
    num_samples = whole_number("num_samples", num_samples, 1)
    from .outputs import UnconditionalInputs

    return UnconditionalInputs(
        encoder_outputs=(Tensor(np.zeros((num_samples, 1, text_dim), np.float32)),),
        attention_mask=Tensor(np.zeros((num_samples, 1), np.int32)),
        guidance_scale=1.0,
    )


def prepare(model, text, audio, generation_config, arguments, seed):
    """Check a call.

    Args:
        model (MusicgenForConditionalGeneration): whose networks encode text and audio.
        text (dict): input_ids, attention_mask, encoder_outputs, negative_input_ids, negative_attention_mask.
        audio (dict): input_values, padding_mask, audio_codes, decoder_input_ids.
        generation_config (transformers.GenerationConfig): defaults.
        arguments (dict): see `settings.PASSED_ON`.
        seed (int | Sequence[int]): see `settings.resolve_seeds`.

    Returns:
        Request

    Raises:
        InputError: naming the argument, what is wrong and what would be right.
    """
    refuse_melody(arguments)
    settings.check(model.config, generation_config, arguments)
    check_masks(text)
    prompt = prompt_codes(model, **audio)
    if text["input_ids"] is None and text["encoder_outputs"] is None and prompt is not None:
        text = text | dict(unconditional_inputs(model.config.text_encoder.hidden_size, len(prompt)))
        arguments = arguments | {"guidance_scale": text.pop("guidance_scale")}
    copies = settings.sequences_per_prompt(generation_config, arguments)
    guided = max(settings.guidance_of(generation_config, arguments)) > 1
    states, mask, pairs = text_states(model, guided, **text)
    rows = len(mask) // 2 if pairs else len(mask)
    frames = 0 if prompt is None else prompt.shape[2]
    chosen = settings.resolve(model.config, generation_config, arguments, rows * copies, frames, seed)
    prompt = prompt_of_rows(prompt, rows, model.config.decoder.num_codebooks)
    if copies > 1:
        states, mask = (Tensor(np.repeat(value.asnumpy(), copies, axis=0)) for value in (states, mask))
        prompt = np.repeat(prompt, copies, axis=0)
    return Request(states, mask, prompt, chosen)


def refuse_melody(arguments):
    """Refuse a melody that was given to a text model."""
    if arguments.get("input_features") is not None:
        raise InputError(
            "input_features is a melody, which this text model cannot follow; open one with "
            "MusicgenMelodyForConditionalGeneration"
        )


def check_masks(text):
    """Refuse a mask whose tokens are not given."""
    given = text["input_ids"] is not None or text["encoder_outputs"] is not None
    belongs("input_ids or encoder_outputs", given, attention_mask=text["attention_mask"])
    negative = text["negative_input_ids"] is not None
    belongs("negative_input_ids", negative, negative_attention_mask=text["negative_attention_mask"])


def prompt_of_rows(prompt, rows, num_codebooks):
    """The codes to start with, [rows, K, frames]; no frames for None."""
    if prompt is None:
        return np.zeros((rows, num_codebooks, 0), np.int32)
    if len(prompt) != rows:
        raise InputError(f"the audio holds {len(prompt)} prompts and the text {rows}; give as many of each")
    return prompt


def text_states(
    model, guided, input_ids, attention_mask, encoder_outputs, negative_input_ids=None, negative_attention_mask=None
):
    """Text states and mask, padded to a bucket, and whether the null rows stand behind the prompts' rows already."""
    if (input_ids is None) == (encoder_outputs is None):
        raise InputError("generate needs either input_ids from the processor or encoder_outputs")
    if negative_input_ids is not None and not guided:
        raise InputError("a negative prompt works through guidance; give a guidance_scale above 1")
    if encoder_outputs is not None:
        if negative_input_ids is not None:
            raise InputError("a negative prompt cannot be added to encoder_outputs; append its states to them")
        states, mask = _given_states(model, encoder_outputs, attention_mask)
        if guided and len(mask) % 2:
            raise InputError(
                f"encoder_outputs has {len(mask)} rows; with guidance it needs as many null rows as prompts behind them"
            )
        return states, mask, guided
    ids, mask = _tokens(model, "input_ids", input_ids, attention_mask)
    if negative_input_ids is not None:
        ids, mask = _with_negative(
            ids, mask, *_tokens(model, "negative_input_ids", negative_input_ids, negative_attention_mask)
        )
    padding = ((0, 0), (0, bucket(ids.shape[1], TEXT_BUCKETS) - ids.shape[1]))
    ids, mask = (Tensor(np.pad(value, padding).astype(np.int32)) for value in (ids, mask))
    return model.encode_text(ids, mask), mask, negative_input_ids is not None


def _with_negative(ids, mask, negative_ids, negative_mask):
    """Tokens and mask with the negative prompts in the place of the null rows."""
    if len(negative_ids) not in (1, len(ids)):
        raise InputError(
            f"there are {len(negative_ids)} negative prompts for {len(ids)} prompts; give one, or one each"
        )
    width = max(ids.shape[1], negative_ids.shape[1])

    def fit(values, rows):
        return np.repeat(np.pad(values, ((0, 0), (0, width - values.shape[1]))), rows // len(values), axis=0)

    rows = len(ids)
    return tuple(
        np.concatenate([fit(one, rows), fit(other, rows)])
        for one, other in ((ids, negative_ids), (mask, negative_mask))
    )


def _given_states(model, encoder_outputs, attention_mask):
    """States and mask in place of tokens, padded to a bucket."""
    states = as_array("encoder_outputs", encoder_outputs[0], 3).astype(np.float32)
    if states.shape[2] != model.config.text_encoder.hidden_size:
        raise InputError(
            f"encoder_outputs has width {states.shape[2]}; expected {model.config.text_encoder.hidden_size}"
        )
    mask = as_mask("attention_mask", attention_mask, states.shape[:2])
    padding = bucket(states.shape[1], TEXT_BUCKETS) - states.shape[1]
    states = np.pad(states, ((0, 0), (0, padding), (0, 0)))
    return Tensor(states), Tensor(np.pad(mask, ((0, 0), (0, padding))).astype(np.int32))


def _tokens(model, name, input_ids, attention_mask):
    """Tokens and mask as arrays, [B, S]."""
    ids = as_whole(name, input_ids, 2)
    # An absent mask must not be inferred from the codes' padding, as transformers does: all tokens are real.
    mask = as_mask(name.replace("input_ids", "attention_mask"), attention_mask, ids.shape)
    if ids.size == 0:
        raise InputError(f"{name} is empty; give a prompt of at least one token")
    if ids.min() < 0 or ids.max() >= model.config.text_encoder.vocab_size:
        raise InputError(
            f"{name} must be 0 to {model.config.text_encoder.vocab_size - 1}; the tokenizer is another model's"
        )
    return ids, mask


def prompt_codes(model, input_values=None, padding_mask=None, audio_codes=None, decoder_input_ids=None):
    """The codes that the music starts with.

    Args:
        model (MusicgenForConditionalGeneration): its codec codes audio.
        input_values (Tensor): audio, [B, channels, samples].
        padding_mask (Tensor): [B, samples], 0 where audio is padding, which becomes silence.
        audio_codes (Tensor): codes in place of audio, [B, K, frames].
        decoder_input_ids (Tensor): the same as [B * K, frames], with or without the start code.

    Returns:
        numpy.ndarray: [B, K, frames] int32, or None if nothing is given.

    Raises:
        InputError: naming the argument, what is wrong and what would be right.
    """
    given = {"input_values": input_values, "audio_codes": audio_codes, "decoder_input_ids": decoder_input_ids}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise InputError(f"{' and '.join(named)} all say what the music starts with; give one of them")
    belongs("input_values", input_values is not None, padding_mask=padding_mask)
    if input_values is not None:
        return _coded_audio(model, input_values, padding_mask)
    decoder = model.config.decoder
    if audio_codes is not None:
        codes = as_whole("audio_codes", audio_codes, 3)
        if codes.shape[1] != decoder.num_codebooks:
            raise InputError(f"audio_codes has {codes.shape[1]} codebooks; this model has {decoder.num_codebooks}")
        return _checked_prompt(model, "audio_codes", codes)
    if decoder_input_ids is None:
        return None
    codes = as_whole("decoder_input_ids", decoder_input_ids, 2)
    if codes.shape[0] % decoder.num_codebooks:
        raise InputError(f"decoder_input_ids has {codes.shape[0]} rows; expected a multiple of {decoder.num_codebooks}")
    codes = codes.reshape(-1, decoder.num_codebooks, codes.shape[1])
    if codes.shape[2] and (codes[:, :, 0] == model.pad_code).all():
        codes = codes[:, :, 1:]
    return _checked_prompt(model, "decoder_input_ids", codes)


def _checked_prompt(model, name, codes):
    vocab_size = model.config.decoder.vocab_size
    if codes.size and (codes.min() < 0 or codes.max() >= vocab_size):
        raise InputError(f"{name} must be codes 0 to {vocab_size - 1}")
    settings.check_prompt(model.config, codes.shape[2])
    return codes.astype(np.int32)


def _coded_audio(model, input_values, padding_mask):
    """Codes of an audio prompt."""
    values = as_batch("input_values", input_values)
    settings.check_prompt(model.config, -(-values.shape[2] // model.config.audio_encoder.hop_length))
    if padding_mask is not None:
        values = values * as_mask("padding_mask", padding_mask, (values.shape[0], values.shape[2]))[:, None]
    if np.abs(values).max(axis=(1, 2)).min() < SILENCE:
        row = int(np.abs(values).max(axis=(1, 2)).argmin())
        raise InputError(f"audio prompt {row + 1} is silent; give some music, or leave it out")
    return model.encode(values).asnumpy()
