"""The processor of the melody models: text as `musicgen.processing` has it, and the chroma of a recording."""

import os
import warnings

import numpy as np

from ...audio import read_audio
from ...errors import InputError, whole_number
from ...sound.samples import SILENCE, as_samples, is_path, peak_of, recordings
from ...sound.sound_file import SoundFile
from ..processing import MusicgenProcessor, _count, as_tensor, check_tensors, placed, refuse_others
from .chroma import chroma_features

LONGEST_MELODY = 3600.0  # seconds, for music as long


class MusicgenMelodyProcessor(MusicgenProcessor):
    """Turns prompts into `input_ids` and `attention_mask`, and recordings into `input_features`, their chroma.

    Args:
        feature_extractor (MusicgenMelodyFeatureExtractor): how the model wants its melodies.
        tokenizer (transformers.PreTrainedTokenizerBase): a T5 tokenizer.
    """

    @staticmethod
    def _extractor():
        from .feature_extractor import MusicgenMelodyFeatureExtractor

        return MusicgenMelodyFeatureExtractor

    @property
    def model_input_names(self):
        """What a call may return."""
        return [*super().model_input_names, "input_features"]

    def _stored_layout(self):
        return self.feature_extractor.to_dict() | {"processor_class": "MusicgenMelodyProcessor"}

    def __call__(
        self,
        *text_or_audio,
        text=None,
        audio=None,
        sampling_rate=None,
        negative_text=None,
        padding=True,
        return_tensors="ms",
        audio_prompt=None,
        truncation=True,
        **others,
    ):
        """Model inputs for prompts: text, a melody to follow, audio to continue, or several of them.

        Args:
            text_or_audio, text, negative_text, sampling_rate, return_tensors: as in `MusicgenProcessor`.
            audio (str | numpy.ndarray | Sequence): the melody: a file, or samples in -1 to 1, [N] or with the channels
                as the shorter of two axes; or one of these for each prompt; or stems as Demucs separates them, [B,
                stems, channels, N], of which voice and other instruments are taken. Mixed to one channel and resampled.
                Separated stems give the clearer melody: drums and bass have pitches too.
            padding (bool): pad to the longest: text on the right, melodies with silence, which counts as the note C.
            audio_prompt: audio to continue, given as `MusicgenProcessor` takes its `audio`.
            truncation (bool): cut melodies to the 30 s that the model hears at a time. Music that is longer, made
                window by window, can follow a longer melody.

        Returns:
            transformers.BatchEncoding as from `MusicgenProcessor`; with input_features of the melody, [B, frames, 12],
            one-hot, 1 + samples // hop length frames: 7.8 a second.

        Raises:
            InputError: naming what is wrong and what would be right; a melody that is silent is refused.
        """
        text, audio = placed(text_or_audio, text, audio)
        refuse_others(others)
        check_tensors(return_tensors)
        given = {"text": text, "audio": audio_prompt, "sampling_rate": sampling_rate, "negative_text": negative_text}
        given |= {"padding": padding, "return_tensors": return_tensors}
        if audio is None:
            return super().__call__(**given)
        if text is None and audio_prompt is None:
            if negative_text is not None:
                raise InputError("a negative prompt needs a prompt beside it; give text")
            from transformers import BatchEncoding

            batch = BatchEncoding({})
        else:
            batch = super().__call__(**given)
        melodies = self._melodies(audio, sampling_rate, padding, truncation, _count(text))
        batch["input_features"] = as_tensor(melodies, return_tensors)
        return batch

    def get_unconditional_inputs(self, num_samples=1, return_tensors="ms"):
        """An empty prompt for each sample, all of it masked; arguments of `generate` for music without a prompt.

        Args:
            num_samples (int): pieces to make.
            return_tensors (str): "ms" for mindspore.Tensor, "np" for NumPy arrays.

        Returns:
            transformers.BatchEncoding with input_ids and attention_mask, [num_samples, 1].

        Raises:
            InputError: if num_samples is not a whole number above 0.
        """
        num_samples = whole_number("num_samples", num_samples, 1)
        from transformers import BatchEncoding

        ids = np.full((num_samples, 1), self.tokenizer.eos_token_id, np.int32)
        made = {"input_ids": ids, "attention_mask": np.zeros_like(ids)}
        return BatchEncoding({name: as_tensor(values, return_tensors) for name, values in made.items()})

    def _melodies(self, audio, sampling_rate, padding, truncation, prompts):
        """Chroma of each melody, [B, frames, num_chroma] float32."""
        if getattr(audio, "ndim", 0) == 4:
            stems = as_samples("audio", audio)
            if stems.shape[1] <= max(self.feature_extractor.stem_indices):
                raise InputError(f"audio has {stems.shape[1]} stems; expected the four that Demucs separates")
            audio = list(stems[:, list(self.feature_extractor.stem_indices)].sum(axis=1))
        clips = []
        for number, (one, rate) in enumerate(recordings(audio, sampling_rate, prompts), 1):
            name = repr(one) if is_path(one) else str(number)
            clip, seconds = self._melody(one, rate, truncation)
            if peak_of(clip) < SILENCE:
                raise InputError(f"melody {name} is silent; give a recording with a tune, or leave it out")
            if truncation and seconds > self.feature_extractor.chunk_length:
                heard = self.feature_extractor.chunk_length
                long = f"{seconds:.1f} s" if np.isfinite(seconds) else f"more than {heard} s"
                warnings.warn(
                    f"melody {name} has {long} and the model hears {heard} s: its end is cut off",
                    stacklevel=4,
                )
            clips.append(clip)
        longest = max(len(clip) for clip in clips)
        if not padding and any(len(clip) != longest for clip in clips):
            raise InputError("the melodies differ in length; call the processor with padding=True")
        return np.stack([self._chroma(clip, longest) for clip in clips])

    def _melody(self, audio, rate, truncation):
        """One recording, [N], and the seconds it has in full."""
        if not truncation:
            clip = self._clip(audio, rate, 1, LONGEST_MELODY)[0]
            return clip, len(clip) / self.sampling_rate
        heard = self.feature_extractor.chunk_length
        if not is_path(audio):
            clip = self._clip(audio, rate, 1, np.inf)[0]
            return clip[: heard * self.sampling_rate], len(clip) / self.sampling_rate
        seconds = SoundFile(audio).seconds
        clip = read_audio(os.fspath(audio), self.sampling_rate, 1, upto=heard)[0]
        if len(clip) < heard * self.sampling_rate:
            seconds = len(clip) / self.sampling_rate  # a header that does not know it, or is wrong
        return clip, seconds

    def _chroma(self, clip, length):
        """Chroma of one melody that is padded to `length` samples, [frames, num_chroma]."""
        missing = length - len(clip)
        clip = np.pad(clip, (missing, 0) if self.feature_extractor.padding_side == "left" else (0, missing))
        layout = self.feature_extractor
        return chroma_features(clip, self.sampling_rate, layout.n_fft, layout.hop_length, layout.num_chroma)
