"""Old name of `musicgen.decoder`."""

from ..musicgen.decoder import MusicgenDecoder, sinusoidal_positions

__all__ = ["MusicgenDecoder", "sinusoidal_positions"]
