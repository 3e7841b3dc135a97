"""The manifest of Bark's files: which numbers it has."""

from ...mindir.manifest import CACHE, WIDE
from ...mindir.manifest import Manifest as AnyManifest

# Every number that sizes something, and the most that it can be in files of `export`.
SIZES = {"batch": 256, "tokens": WIDE, "prompt": 2 * WIDE, "ids": 1 << 22, "coarse_prompt": WIDE, "window": WIDE}
SIZES |= {"codes": 1 << 22, "books": 64, "chunk": 1024}
CODEC = {"left": 64, "reach": 1024, "layers": 64, "hidden": WIDE, "window": WIDE}
STAGE = CACHE | {"positions": WIDE}


class Manifest(AnyManifest):
    """What manifest.json says of a Bark."""

    kind = "bark"
    numbers = {"sizes": SIZES, "semantic": STAGE, "coarse": STAGE, "codec": CODEC}
    positive = (*(("sizes", name) for name in SIZES), ("codec", "window"))

    def check_fits(self, config):
        """Refuse caches of other sizes than the config's.

        Args:
            config (BarkConfig): from the config.json beside the manifest.
        """
        for name, network in (("semantic", config.semantic_config), ("coarse", config.coarse_acoustics_config)):
            expected = stage_numbers(network, min(self[name]["positions"], network.block_size))
            if {key: self[name][key] for key in STAGE} != expected:
                raise self.broken()


def stage_numbers(network, positions):
    """What the manifest says of a stage's cache.

    Args:
        network (transformers.BarkSemanticConfig | transformers.BarkCoarseConfig): of the stage.
        positions (int): that the cache has room for.
    """
    heads = network.num_heads
    return {
        "layers": network.num_layers,
        "heads": heads,
        "head_size": network.hidden_size // heads,
        "positions": positions,
    }
