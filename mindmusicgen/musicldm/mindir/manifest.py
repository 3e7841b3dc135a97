"""The manifest of MusicLDM's files: which numbers it has, and what their graphs take."""

from ...mindir.export import floats, ints
from ...mindir.manifest import WIDE
from ...mindir.manifest import Manifest as AnyManifest

# What sizes the graphs, and the most that it can be.
SIZES = {"batch": 256, "lines": 1 << 12, "samples": 1 << 24, "text_length": WIDE}


class Manifest(AnyManifest):
    """What manifest.json says of a MusicLDM."""

    kind = "musicldm"
    numbers = {"sizes": SIZES}
    positive = tuple(("sizes", name) for name in SIZES)

    def check_fits(self, networks, features):
        """Refuse graphs of other inputs than those of the configs beside them.

        Args:
            networks (settings.Sizes): of the UNet, the autoencoder and the vocoder.
            features (clap.features.FeatureConfig): None without one.
        """
        if self["sizes"]["samples"] > self["sizes"]["lines"] * networks.vae.stretch * networks.hop_length:
            raise self.broken()
        expected = inputs(self["sizes"], networks, features)
        for name, entry in self["graphs"].items():
            if name not in expected or entry.get("inputs") != described(expected[name]):
                raise self.broken()


def inputs(sizes, networks, features=None):
    """What each graph takes: zeros by the graph's name and the input's.

    Args:
        sizes (dict): of `SIZES`.
        networks (settings.Sizes): of the UNet, the autoencoder and the vocoder.
        features (clap.features.FeatureConfig): what the judge hears; None without one.
    """
    rows, lines, columns = 2 * sizes["batch"], sizes["lines"], networks.columns
    stretch = networks.vae.stretch
    made = {
        "text_vector": {"ids": ints(1, sizes["text_length"]), "mask": ints(1, sizes["text_length"])},
        "noise": {
            "latents": floats(rows, lines, columns, networks.unet.in_channels),
            "timestep": floats(1),
            "vectors": floats(rows, networks.unet.class_size),
        },
        "spectrogram": {"latents": floats(1, lines, columns, networks.vae.latent_channels)},
        "waveform": {"spectrogram": floats(1, lines * stretch, networks.vocoder.model_in_dim)},
    }
    if features is not None:
        made["audio_vector"] = {"features": floats(1, features.frames, features.bins)}
    return made


def described(arrays):
    """What the manifest says of a graph's inputs."""
    return [{"name": name, "shape": list(one.shape), "dtype": str(one.dtype)} for name, one in arrays.items()]
