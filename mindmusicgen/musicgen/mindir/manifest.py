"""The manifest of MusicGen's files: which numbers it has."""

from ...mindir.manifest import CACHE, WIDE
from ...mindir.manifest import Manifest as AnyManifest

# Every number that sizes something, and the most that it can be in files of `export`.
SIZES = {"batch": 256, "text_length": 512, "cache_length": 4096, "prompt_columns": 4096, "prompt_samples": 1 << 26}
SIZES |= {"chunk": 1024}
CODEC = {"left": WIDE, "right": WIDE, "reach": WIDE, "layers": 64, "hidden": WIDE, "piece": WIDE}


class Manifest(AnyManifest):
    """What manifest.json says of a MusicGen."""

    kind = "musicgen"
    numbers = {"sizes": SIZES, "codec": CODEC, "cache": CACHE, None: {"pad_code": 1 << 22}}
    positive = (("sizes", "batch"), ("sizes", "chunk"), ("codec", "piece"))

    def check_fits(self, decoder):
        """Refuse a cache of other sizes than the config's.

        Args:
            decoder (transformers.MusicgenDecoderConfig): from the config.json beside the manifest.
        """
        heads, width = decoder.num_attention_heads, decoder.hidden_size
        expected = {"layers": decoder.num_hidden_layers, "heads": heads, "head_size": width // heads}
        if {name: self["cache"][name] for name in CACHE} != expected or self["pad_code"] > decoder.vocab_size:
            raise self.broken()
