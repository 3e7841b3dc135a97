"""transformers' config classes, with what one of its versions lacks.

Objects made by transformers itself serve everywhere in this package too.
"""

from transformers import EncodecConfig, MusicgenDecoderConfig, T5Config
from transformers import MusicgenConfig as _MusicgenConfig

from .checkpoint.folder import quiet_transformers

__all__ = ["EncodecConfig", "MusicgenConfig", "MusicgenDecoderConfig", "T5Config"]


class MusicgenConfig(_MusicgenConfig):
    """`transformers.MusicgenConfig` with `from_sub_models_config`, which version 5 of transformers dropped."""

    @classmethod
    def from_sub_models_config(cls, text_encoder_config, audio_encoder_config, decoder_config, **kwargs):
        """The config of a composite from those of its three networks.

        Args:
            text_encoder_config (transformers.T5Config): the text encoder's.
            audio_encoder_config (transformers.EncodecConfig): the codec's.
            decoder_config (transformers.MusicgenDecoderConfig): the decoder's.
            **kwargs: further fields of the composite's config.

        Returns:
            MusicgenConfig
        """
        with quiet_transformers():
            return cls(
                text_encoder=text_encoder_config.to_dict(),
                audio_encoder=audio_encoder_config.to_dict(),
                decoder=decoder_config.to_dict(),
                **kwargs,
            )
