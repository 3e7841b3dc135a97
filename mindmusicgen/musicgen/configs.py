"""transformers' config classes of MusicGen, with the ways of this package to open one."""

from ..checkpoint.config_file import quiet_transformers
from ..configs import Config
from ..runtime.quiet import unadvised

with unadvised():
    import transformers


class Composite(Config):
    """Of a whole model."""

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


class MusicgenDecoderConfig(Config, transformers.MusicgenDecoderConfig):
    """`transformers.MusicgenDecoderConfig`."""


class MusicgenMelodyDecoderConfig(Config, transformers.MusicgenMelodyDecoderConfig):
    """`transformers.MusicgenMelodyDecoderConfig`."""


class MusicgenConfig(Composite, transformers.MusicgenConfig):
    """`transformers.MusicgenConfig`."""


class MusicgenMelodyConfig(Composite, transformers.MusicgenMelodyConfig):
    """`transformers.MusicgenMelodyConfig`."""
