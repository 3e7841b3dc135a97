"""A user's folder of audio and captions as training data: code the audio once, tokenise the captions.

`pairs` finds the files. What cannot be used is skipped and listed; it ends nothing.
"""

import contextlib
import hashlib
import json
import os
import time
import zlib
from dataclasses import dataclass, field

import numpy as np

from ...audio import read_blocks
from ...errors import InputError
from ...generation.decode_loop import TEXT_BUCKETS, bucket
from ...language import said
from ...runtime.files import whole_file
from ...runtime.interrupt import interruptible
from ...runtime.progress import progress_bar, someone_watches
from ...runtime.telling import printable, quoted, tell
from ...sound.samples import SILENCE, UnusableAudio, peak_of
from ...sound.sound_file import SoundFile
from ..processing import MAX_TOKENS
from .language_model import CaptionedCodes

CODES, SKIPPED = "codes.npz", "skipped.txt"
SHORTEST = 1.0  # seconds
SAVE_SECONDS = 60.0  # between two writes of the codes


@dataclass
class CodedAudio:
    """What has been coded so far.

    Attributes:
        codes (list[numpy.ndarray]): [K, frames] int32 of each window.
        sources (list[int]): for each window the number of its pair.
        skipped (list[tuple[str, str]]): name and reason.
        done (int): pairs that have been looked at.
    """

    codes: list = field(default_factory=list)
    sources: list = field(default_factory=list)
    skipped: list = field(default_factory=list)
    done: int = 0


def clip_frames(model_config, seconds):
    """Frames of codes in a clip of some seconds."""
    return max(1, round(seconds * model_config.audio_encoder.frame_rate))


def data_fingerprint(model, pairs, frames):
    """A text that changes with the files, their captions, the window or the codec."""
    codec = model.config.audio_encoder.to_dict()
    codec.pop("transformers_version", None)
    weights = 0
    for _, parameter in model.audio_encoder.parameters_and_names():
        weights = zlib.crc32(np.ascontiguousarray(parameter.asnumpy()), weights)
    files = [(pair.name, pair.captions, pair.stamp) for pair in pairs]
    facts = json.dumps([files, frames, codec, weights], sort_keys=True, default=str)
    return hashlib.sha256(facts.encode("utf-8", "surrogateescape")).hexdigest()


def code_audio(model, folder, pairs, frames, path):
    """Codes of all windows of all pairs; kept in a file, from which an interrupted or repeated call goes on.

    Args:
        model (MusicgenForConditionalGeneration): its codec is used.
        folder (str): what the pairs' names are below.
        pairs (Sequence[Pair]): from `find_pairs`.
        frames (int): of a window. All are coded at this length, so that one graph serves them.
        path (str): the .npz file.

    Returns:
        CodedAudio

    Raises:
        InputError: if the file cannot be written.
        KeyboardInterrupt: after saving, if the user interrupts.
    """
    mark = data_fingerprint(model, pairs, frames)
    coded, saved = _load_codes(path, mark), time.monotonic()
    if coded.done == len(pairs):
        return coded
    watched = someone_watches()
    if not watched:
        tell(said(f"coding {len(pairs) - coded.done} audio files"))
    bar = progress_bar(total=len(pairs), initial=coded.done, unit="file", desc="coding", disable=not watched)
    with interruptible() as interrupts, bar:
        try:
            while coded.done < len(pairs):
                name = pairs[coded.done].name
                try:
                    windows = _code_file(model, os.path.join(folder, name), frames, interrupts)
                except UnusableAudio as error:
                    coded.skipped.append((name, error.reason))
                else:
                    coded.codes += windows
                    coded.sources += [coded.done] * len(windows)
                coded.done += 1
                bar.update()
                if time.monotonic() - saved > SAVE_SECONDS:
                    _save_codes(path, mark, coded, model)
                    saved = time.monotonic()
        except KeyboardInterrupt:
            _save_codes(path, mark, coded, model)
            raise
    _save_codes(path, mark, coded, model)
    return coded


def _code_file(model, path, frames, interrupts):
    """Codes [K, frames or fewer] of each window of a file, which is read in blocks, however long it is."""
    interrupts.check()
    rate, channels = model.sampling_rate, model.config.decoder.audio_channels
    hop, file = model.config.audio_encoder.hop_length, SoundFile(path)
    heard, peak = 0, 0.0
    for piece in read_blocks(file, rate, channels):
        heard, peak = heard + piece.shape[1], max(peak, peak_of(piece))
        if heard >= SHORTEST * rate and peak >= SILENCE:
            break
    if heard < SHORTEST * rate:
        raise UnusableAudio(file.name, "is shorter than a second", "expected more")
    if peak < SILENCE:
        raise UnusableAudio(file.name, "is silent", f"expected a peak above {SILENCE}")
    made = []
    for piece in _windows(read_blocks(file, rate, channels), frames * hop):
        if piece.shape[1] < SHORTEST * rate:
            break
        window = np.zeros((1, channels, frames * hop), np.float32)
        window[0, :, : piece.shape[1]] = piece
        made.append(model.encode(window).asnumpy()[0, :, : -(-piece.shape[1] // hop)].astype(np.int32))
        interrupts.check()
    return made


def _windows(pieces, size):
    """Pieces [channels, n] joined and cut into windows of `size` samples, the last of which may be shorter."""
    held, count = [], 0
    for piece in pieces:
        held.append(piece)
        count += piece.shape[1]
        if count >= size:
            joined, whole = np.concatenate(held, axis=1), count // size * size
            yield from np.split(joined[:, :whole], whole // size, axis=1)
            held, count = [joined[:, whole:]], count - whole
    if count:
        yield np.concatenate(held, axis=1)


def _save_codes(path, mark, coded, model):
    with output_file(path) as file:
        np.savez(
            file,
            fingerprint=mark,
            done=coded.done,
            codes=np.concatenate([np.zeros((model.config.decoder.num_codebooks, 0), np.int32), *coded.codes], axis=1),
            frames=np.array([clip.shape[1] for clip in coded.codes], np.int64),
            sources=np.array(coded.sources, np.int64),
            skipped=json.dumps(coded.skipped),
        )


def _load_codes(path, mark):
    """The codes in a file, or nothing if there is none, it is damaged, or it is of something else."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["fingerprint"]) != mark:
                return CodedAudio()
            ends = np.cumsum(file["frames"])
            codes = file["codes"]
            return CodedAudio(
                [codes[:, end - length : end] for end, length in zip(ends, file["frames"], strict=True)],
                file["sources"].tolist(),
                [tuple(entry) for entry in json.loads(str(file["skipped"]))],
                int(file["done"]),
            )
    except Exception:  # zipfile, zlib and NumPy raise many kinds for a file that is damaged
        return CodedAudio()


def tokenise(processor, pairs, vocabulary):
    """Captions of each pair as tokens, all padded to one length from TEXT_BUCKETS, at most MAX_TOKENS.

    Args:
        processor (MusicgenProcessor): of the model.
        pairs (Sequence[Pair]): from `find_pairs`.
        vocabulary (int): tokens that the text encoder knows.

    Returns:
        list[list[tuple]]: for each pair its captions as (input_ids, attention_mask), both [S] int32.

    Raises:
        InputError: if the tokenizer makes tokens that the text encoder does not know.
    """
    texts = [caption for pair in pairs for caption in pair.captions]
    ids = processor.tokenizer(texts, truncation=True, max_length=MAX_TOKENS)["input_ids"]
    if max(max(one) for one in ids) >= vocabulary:
        raise InputError(f"the tokenizer makes tokens beyond {vocabulary - 1}; it is another model's")
    length = bucket(max(len(one) for one in ids), TEXT_BUCKETS)
    encoded = processor.tokenizer(texts, padding="max_length", truncation=True, max_length=length)
    rows = iter(zip(np.int32(encoded["input_ids"]), np.int32(encoded["attention_mask"]), strict=True))
    return [[next(rows) for _ in pair.captions] for pair in pairs]


def captioned_codes(model, processor, folder, found, output, seconds, rows, seed):
    """The training data of a folder; see `CaptionedCodes`.

    Args:
        model (MusicgenForConditionalGeneration): its codec codes the audio.
        processor (MusicgenProcessor): tokenises the captions.
        folder (str): audio and captions.
        found (tuple): what `find_pairs` returned for it.
        output (str): folder for the codes and the list of what was skipped.
        seconds (float): longest clip.
        rows (int): clips in a batch.
        seed (int): of the order.

    Raises:
        InputError: if nothing in the folder can be used.
    """
    pairs, skipped = found
    frames = clip_frames(model.config, seconds)
    coded = code_audio(model, folder, pairs, frames, os.path.join(output, CODES))
    skipped = skipped + coded.skipped
    report(skipped, len(set(coded.sources)), os.path.join(output, SKIPPED))
    if not coded.codes:
        raise InputError(nothing_to_train_on(folder, skipped))
    captions = tokenise(processor, pairs, model.config.text_encoder.vocab_size)
    return CaptionedCodes(
        coded.codes,
        [captions[number] for number in coded.sources],
        max(clip.shape[1] for clip in coded.codes),  # where all clips are shorter, padding would cost time
        model.pad_code,
        rows,
        audio_channels=model.config.decoder.audio_channels,
        seed=seed,
    )


def nothing_to_train_on(folder, skipped):
    """A sentence for a folder of which everything was skipped."""
    reasons = f" ({_counts(skipped)})" if skipped else ""
    return (
        f"data {quoted(folder)} holds nothing to train on{reasons}; expected audio of a second or more, each with a "
        "caption in a .txt beside it, in metadata.jsonl or in metadata.csv"
    )


def _counts(skipped):
    """How many were skipped for which reason."""
    reasons = [reason for _, reason in skipped]
    return ", ".join(f"{reasons.count(reason)} x {said(reason)}" for reason in sorted(set(reasons)))


def report(skipped, used, path):
    """Write the list of what was skipped, and say in one line how much and why."""
    with output_file(path) as file:
        file.write("".join(f"{printable(name)}: {reason}\n" for name, reason in skipped).encode())
    if skipped:
        line = f"skipped {len(skipped)}, used {used} ({_counts(skipped)}); the list is {path}"
        tell(f"mindmusicgen: {said(line)}", error=True)


@contextlib.contextmanager
def output_file(path):
    """A binary file of a run's output folder, which appears whole or not at all.

    Raises:
        InputError: if it cannot be written.
    """
    try:
        with whole_file(path) as partial, open(partial, "wb") as file:
            yield file
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); make room or choose another output") from error
