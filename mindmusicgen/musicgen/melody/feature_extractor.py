"""How a melody model wants its recordings: transformers' MusicgenMelodyFeatureExtractor."""

import json
import os
from dataclasses import asdict, dataclass

from ...checkpoint.source import as_folder, resolve
from ...errors import InputError
from ..processing import LAYOUT, checked_layout, config_layout, is_melody
from .chroma import HOP_LENGTH, N_FFT, NUM_CHROMA


@dataclass
class MusicgenMelodyFeatureExtractor:
    """How a model wants its melodies; the names are those of preprocessor_config.json.

    Attributes:
        feature_size (int): pitch classes in an octave, as `num_chroma`.
        sampling_rate (int): samples per second of the model's audio.
        hop_length (int): samples from one window to the next.
        chunk_length (int): seconds that the model hears.
        n_fft (int): samples in a window.
        num_chroma (int): pitch classes in an octave.
        padding_value (float): what a shorter melody of a batch is filled up with.
        return_attention_mask (bool): not used: what is filled up counts as music.
        stem_indices (tuple[int]): which of Demucs' stems hold the melody.
        padding_side (str): where a shorter melody of a batch is filled up, "left" or "right".
        audio_channels (int): 1, or 2 for stereo models.
    """

    feature_size: int = NUM_CHROMA
    sampling_rate: int = 32000
    hop_length: int = HOP_LENGTH
    chunk_length: int = 30
    n_fft: int = N_FFT
    num_chroma: int = NUM_CHROMA
    padding_value: float = 0.0
    return_attention_mask: bool = False
    stem_indices: tuple = (3, 2)
    padding_side: str = "right"
    audio_channels: int = 1

    @property
    def n_samples(self):
        """Samples that the model hears."""
        return self.chunk_length * self.sampling_rate

    @classmethod
    def from_pretrained(cls, model, revision=None, cache_dir=None, local_files_only=False):
        """Open that of a melody model's folder or hub id.

        Raises:
            InputError: if there is no such model, or it is no melody model.
        """
        return cls.of_folder(resolve(model, revision, cache_dir, local_files_only, weights=False))

    @classmethod
    def of_folder(cls, folder):
        """That of the model in a folder."""
        folder = as_folder(folder)
        if not is_melody(folder):
            raise InputError(f"{folder} is no melody model's; open it with MusicgenProcessor, or AutoProcessor")
        rate, channels = config_layout(folder)
        found = folder.json(LAYOUT) if folder.has(LAYOUT) else {}
        rate, channels = checked_layout(folder, found.get("sampling_rate", rate), channels)
        known = {name: found[name] for name in cls.__dataclass_fields__ if found.get(name) is not None}
        known |= {"sampling_rate": rate, "audio_channels": channels}
        stems = known.get("stem_indices", cls.stem_indices)
        stems = tuple(stems) if isinstance(stems, (list, tuple)) else ()
        made = cls(**known | {"stem_indices": stems})
        most = {"n_fft": 1 << 20, "hop_length": 1 << 20, "num_chroma": 1024, "chunk_length": 3600}
        sound = all(type(getattr(made, name)) is int and 0 < getattr(made, name) <= most[name] for name in most)
        sound = sound and made.padding_side in ("left", "right") and len(stems) > 0
        if not sound or not all(type(stem) is int and 0 <= stem < 16 for stem in stems):
            raise InputError(
                f"{folder.file(LAYOUT)} cannot be used; expected sizes above 0 that models have, padding_side left or "
                "right, stems"
            )
        return made

    def to_dict(self):
        """What preprocessor_config.json holds."""
        stored = asdict(self) | {"stem_indices": list(self.stem_indices), "n_samples": self.n_samples}
        del stored["audio_channels"]  # transformers has it in the model's config alone
        return stored | {"feature_extractor_type": type(self).__name__}

    def save_pretrained(self, save_directory):
        """Write preprocessor_config.json."""
        os.makedirs(save_directory, exist_ok=True)
        with open(os.path.join(save_directory, LAYOUT), "w", encoding="utf-8") as file:
            json.dump(self.to_dict(), file, indent=2)

    def __call__(self, audio, truncation=True, return_tensors="ms", padding=True, sampling_rate=None):
        """Recordings to `input_features`, their chroma; arguments as in `MusicgenMelodyProcessor`."""
        from .processing import MusicgenMelodyProcessor

        options = {"padding": padding, "truncation": truncation, "return_tensors": return_tensors}
        return MusicgenMelodyProcessor(self, None)(audio=audio, sampling_rate=sampling_rate, **options)
