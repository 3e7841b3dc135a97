"""What CLAP's audio side reads of a recording: log-mel spectrograms of ten seconds, as its feature extractor says."""

from dataclasses import dataclass

import numpy as np

from ..checkpoint.fields import Fields

FLOOR = 1e-10  # of power: -100 dB


@dataclass(frozen=True)
class FeatureConfig:
    """A feature extractor's settings.

    Attributes:
        sampling_rate (int): of the recordings, which are resampled to it.
        samples (int): that are read at a time.
        fft (int), hop (int): samples of a window, and between two.
        bins (int): of mel.
        lowest, highest (float): hertz of the first and the last.
        padding (str): "repeatpad", "repeat" or "pad": how a short recording is filled up.
    """

    sampling_rate: int = 48000
    samples: int = 480000
    fft: int = 1024
    hop: int = 480
    bins: int = 64
    lowest: float = 0.0
    highest: float = 14000.0
    padding: str = "repeatpad"

    @property
    def frames(self):
        """Frames of a spectrogram."""
        return self.samples // self.hop + 1


def read_features(values, path):
    """The settings in the values of a preprocessor_config.json.

    Args:
        values (dict): of the file.
        path (str): the file, for errors.

    Raises:
        InputError: naming the field that is wrong, or asks for what is not built here.
    """
    fields = Fields(values, path)
    if fields.get("feature_extractor_type", "ClapFeatureExtractor") != "ClapFeatureExtractor":
        fields.refuse("feature_extractor_type", "'ClapFeatureExtractor'")
    rate = fields.whole("sampling_rate", 48000, (1000, 200000))
    fft = fields.whole("fft_window_size", 1024, (16, 1 << 15))
    samples = fields.whole("max_length_s", 10, (1, 60)) * rate
    made = FeatureConfig(
        sampling_rate=rate,
        samples=samples,
        fft=fft,
        hop=fields.whole("hop_length", 480, (1, 1 << 15)),
        bins=fields.whole("feature_size", 64, (8, 512)),
        lowest=fields.number("frequency_min", 0, 0, rate / 2),
        highest=fields.number("frequency_max", 14000, 0, rate / 2),
        padding=fields.text("padding", "repeatpad", ("repeatpad", "repeat", "pad")),
    )
    fields.fixed(padding_value=0, top_db=None, truncation="rand_trunc", return_attention_mask=False)
    fields.fixed(nb_frequency_bins=fft // 2 + 1, nb_max_samples=samples)
    fields.unused("padding_side", "processor_class", "is_longer", "feature_extractor_type")
    fields.finish()
    if made.lowest >= made.highest:
        fields.refuse("frequency_max", f"more than frequency_min {made.lowest:g}")
    return made


def mel_filters(config):
    """Slaney's triangles, [fft // 2 + 1, bins]: equal in area, linear below 1 kHz and logarithmic above."""
    step = np.log(6.4) / 27

    def to_mel(hertz):
        return np.where(hertz < 1000, hertz * 3 / 200, 15 + np.log(np.maximum(hertz, 1000) / 1000) / step)

    def to_hertz(mel):
        return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp(step * (mel - 15)))

    ends = to_mel(np.array([config.lowest, config.highest]))
    edges = to_hertz(np.linspace(*ends, config.bins + 2))
    frequencies = np.linspace(0, config.sampling_rate // 2, config.fft // 2 + 1)
    rising = (frequencies[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies[:, None]) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling)) * 2 / (edges[2:] - edges[:-2])


def pieces(samples, config):
    """What is read of a recording: itself filled up, or of a longer one the first and the last ten seconds.

    Args:
        samples (numpy.ndarray): at the config's rate, [samples].
        config (FeatureConfig): the settings.

    Returns:
        list[numpy.ndarray]: one or two of `config.samples` samples.
    """
    wanted = config.samples
    if len(samples) > wanted:
        return [samples[:wanted], samples[-wanted:]]
    if config.padding != "pad":
        times = wanted // len(samples)
        samples = np.tile(samples, times + (config.padding == "repeat"))[:wanted]
    return [np.pad(samples, (0, wanted - len(samples)))]


def log_mel(samples, config):
    """[samples] -> [frames, bins] float32, in decibels."""
    half = config.fft // 2
    padded = np.pad(samples.astype(np.float64), half, mode="reflect")
    starts = np.arange(0, len(padded) - config.fft + 1, config.hop)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(config.fft) / config.fft)
    frames = np.lib.stride_tricks.sliding_window_view(padded, config.fft)[starts] * window
    power = np.abs(np.fft.rfft(frames).astype(np.complex64)).astype(np.float64) ** 2
    return (10 * np.log10(np.maximum(power @ mel_filters(config), FLOOR))).astype(np.float32)
