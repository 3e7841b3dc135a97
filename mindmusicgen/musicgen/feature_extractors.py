"""What a processor knows about a model's audio: transformers' EncodecFeatureExtractor, and the melody models' own."""

from ..checkpoint.source import AUDIOCRAFT_LAYOUT, as_folder, resolve
from ..errors import InputError, shown
from ..runtime.quiet import unadvised
from .processing import LAYOUT, as_tensor, check_tensors, checked_layout, config_layout, is_melody

with unadvised():
    import transformers


class EncodecFeatureExtractor(transformers.EncodecFeatureExtractor):
    """`transformers.EncodecFeatureExtractor` whose arrays are MindSpore's.

    Args:
        feature_size (int): channels of the audio, 1 or 2.
        sampling_rate (int): samples per second.
        **settings: as in transformers, such as padding_value and padding_side.
    """

    @classmethod
    def from_pretrained(cls, model, revision=None, cache_dir=None, local_files_only=False):
        """Open that of a model folder or hub id, or of "demo".

        Raises:
            InputError: if there is no such model, or it is a melody model.
        """
        return cls.of_folder(resolve(model, revision, cache_dir, local_files_only, weights=False))

    @classmethod
    def of_folder(cls, folder):
        """That of the model in a folder."""
        folder = as_folder(folder)
        if is_melody(folder):
            raise InputError(f"{folder} is a melody model's; open it with MusicgenMelodyProcessor, or AutoProcessor")
        if folder.layout == AUDIOCRAFT_LAYOUT:
            from .checkpoint.audiocraft import audio_layout

            rate, channels = audio_layout(folder)
        elif folder.has(LAYOUT):
            found = folder.json(LAYOUT)
            rate, channels = checked_layout(folder, found.get("sampling_rate", 32000), found.get("feature_size", 1))
        else:
            rate, channels = config_layout(folder)
        return cls(channels, rate, padding_side="left")

    def __call__(
        self,
        raw_audio,
        padding=None,
        truncation=False,
        max_length=None,
        return_tensors="ms",
        sampling_rate=None,
    ):
        """Audio to `input_values` and `padding_mask`; `MusicgenProcessor` resamples and mixes besides.

        Args:
            raw_audio (numpy.ndarray | Sequence): samples in -1 to 1, [N], or [N, 2] for stereo; or a list of these.
            padding, truncation, max_length: as in transformers.
            return_tensors (str): "ms" for mindspore.Tensor, "np" for NumPy arrays, None for lists.
            sampling_rate (int): samples per second of the audio, which must be this extractor's.

        Raises:
            InputError: if the audio has another rate, or another number of channels.
        """
        if sampling_rate not in (None, self.sampling_rate):
            raise InputError(
                f"sampling_rate is {shown(sampling_rate)}; expected {self.sampling_rate}, or MusicgenProcessor, which "
                "resamples"
            )
        check_tensors(return_tensors, None)
        kind = None if return_tensors is None else "np"
        try:
            made = super().__call__(raw_audio, padding, truncation, max_length, kind, self.sampling_rate)
        except (ValueError, IndexError, TypeError) as error:
            raise InputError(f"raw_audio cannot be used: {str(error).splitlines()[0]}") from error
        for name in list(made) if kind else ():
            made[name] = as_tensor(made[name], return_tensors)
        return made

    @property
    def audio_channels(self):
        """1, or 2 for stereo models."""
        return self.feature_size
