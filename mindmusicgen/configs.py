"""transformers' config classes, with what one of its versions lacks.

Objects made by transformers itself serve everywhere in this package too.
"""

from transformers import EncodecConfig, MusicgenDecoderConfig, MusicgenMelodyDecoderConfig, T5Config
from transformers import MusicgenConfig as _MusicgenConfig
from transformers import MusicgenMelodyConfig as _MusicgenMelodyConfig

from .checkpoint.config_file import quiet_transformers

__all__ = [
    "EncodecConfig",
    "MusicgenConfig",
    "MusicgenDecoderConfig",
    "MusicgenMelodyConfig",
    "MusicgenMelodyDecoderConfig",
    "T5Config",
]


class _FromSubModels:
    """What version 5 of transformers dropped."""

    @classmethod
    def from_sub_models_config(cls, text_encoder_config, audio_encoder_config, decoder_config, **kwargs):
        """The config of a composite from those of its three networks.

        Args:
            text_encoder_config (transformers.T5Config): the text encoder's.
            audio_encoder_config (transformers.EncodecConfig): the codec's.
            decoder_config (transformers.MusicgenDecoderConfig | MusicgenMelodyDecoderConfig): the decoder's.
            **kwargs: further fields of the composite's config, such as chroma_length.

        Returns:
            this class.
        """
        with quiet_transformers():
            return cls(
                text_encoder=text_encoder_config.to_dict(),
                audio_encoder=audio_encoder_config.to_dict(),
                decoder=decoder_config.to_dict(),
                **kwargs,
            )


class MusicgenConfig(_FromSubModels, _MusicgenConfig):
    """`transformers.MusicgenConfig` with `from_sub_models_config`."""


class MusicgenMelodyConfig(_FromSubModels, _MusicgenMelodyConfig):
    """`transformers.MusicgenMelodyConfig` with `from_sub_models_config`."""
