"""What a MusicLDM is, and what it will need: read from its configs and its tensors' headers."""

import contextlib
import math
import os

from ...checkpoint.json_file import read_json
from ...checkpoint.source import open_weights, resolve
from ...errors import InputError
from ...runtime import device as devices
from ...runtime import memory_limits
from ...runtime.telling import printable
from .. import settings
from ..schedulers import open_scheduler
from ..settings import EXTRACTOR, SCHEDULER
from . import networks
from .folder import resolve_pipeline

PARTS = ("text_encoder", "unet", "vae", "vocoder")
RUNTIME_BYTES = 800e6  # MindSpore and Python themselves, as for MusicGen
ALIVE = 6  # widest pictures alive at once; each lies there three times, side by side, for a convolution
SPEED = 100e9  # operations a second: two cores with AVX-512


def is_published(name):
    """Whether the sizes of a model on the hub are known here: of none, its folder says them."""
    return False


def work(sizes, lines, guided=True):
    """Operations, in multiplications and additions, of a step of the UNet for one waveform, and of decoding it.

    Args:
        sizes (settings.Sizes): configs of the networks.
        lines (int): of latents.
        guided (bool): whether there are two rows for each waveform.

    Returns:
        float, float
    """
    places = lines * sizes.columns
    unet = sum(_of_level(sizes.unet, i, places) for i in range(len(sizes.unet.block_out_channels)))
    return unet * (2 if guided else 1), _of_decoder(sizes.vae, places) + _of_vocoder(sizes.vocoder, 4 * lines)


def _of_level(config, i, places):
    """The UNet at one width, down and up: ResNets of 3 x 3, and transformers of about 28 products of C x C a place."""
    channels, here = config.block_out_channels[i], places / 4**i
    resnets = 2 * config.layers_per_block[i] + 1 + 2 * (i == len(config.block_out_channels) - 1)
    heads = [config.down_heads[i]] * config.layers_per_block[i]
    heads += [config.up_heads[-1 - i]] * (config.layers_per_block[i] + 1)
    attending = sum(map(bool, heads))
    return 2 * here * (resnets * 22 * channels**2 + attending * (28 * channels**2 + 4 * here * channels))


def _of_decoder(config, places):
    """The autoencoder's decoder: ResNets of 3 x 3 at sizes that double, and one attention."""
    total, before = 2 * places * (4 * 9 * config.block_out_channels[-1] ** 2), config.block_out_channels[-1]
    total += 4 * places**2 * config.block_out_channels[-1]
    for i, channels in enumerate(reversed(config.block_out_channels)):
        here, count = places * 4**i, config.layers_per_block + 1
        total += 2 * here * 9 * channels * (before + (2 * count - 1) * channels)
        total += 8 * here * 9 * channels**2 if i < len(config.block_out_channels) - 1 else 0
        before = channels
    return total


def _of_vocoder(config, frames):
    """The vocoder: residual blocks at each rate."""
    total, length, channels = 2 * frames * 7 * config.model_in_dim * config.upsample_initial_channel, frames, 0
    channels = config.upsample_initial_channel
    for rate, size in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
        total += 2 * length * size * channels * channels // 2
        length, channels = length * rate, channels // 2
        taps = zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)
        total += 2 * length * channels**2 * sum(2 * kernel * len(dilations) for kernel, dilations in taps)
    return total


def memory(sizes, parameters, batch, lines):
    """Bytes a run needs at its peak: weights, and the larger of what the UNet and the decoder hold at once."""
    widest = 4 * lines * sizes.columns * 2 * batch * sizes.unet.block_out_channels[0]
    stretch = sizes.vae.stretch
    picture = 4 * lines * stretch * sizes.columns * stretch * sizes.vae.block_out_channels[0] * 2
    return {"runtime": RUNTIME_BYTES, "weights": 4 * parameters, "pictures": 3 * ALIVE * max(widest, picture) / 2}


def estimate(folder, waveforms, seconds=None, steps=settings.STEPS, guidance=settings.GUIDANCE):
    """What a call will take on two CPU cores in float32, by its operations.

    Args:
        folder (ModelFolder): of the model.
        waveforms (int): all that are made.
        seconds, steps, guidance: as in the call.

    Returns:
        float, float: seconds of computing, bytes of memory.
    """
    sizes = settings.Sizes(*(networks.read_part(folder, part) for part in PARTS[1:]))
    _, lines, _ = settings.length(sizes, seconds)
    step, decoding = work(sizes, lines, guidance > 1)
    needed = memory(sizes, sum(parameter_counts(stored_tensors(folder)).values()), waveforms, lines)
    return (steps * step + decoding) * waveforms / SPEED, sum(needed.values())


@contextlib.contextmanager
def enough_memory(pipe, batch, seconds=None):
    """Context that says what is needed, when memory is too small for what is done in it.

    Args:
        pipe (MusicLDMPipeline): opened.
        batch (int): waveforms at a time.
        seconds (float): of each; None: what the model was trained on.

    Raises:
        InputError: in place of MindSpore's or Python's own exception.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not devices.is_memory_error(error):
            raise
        _, lines, _ = settings.length(pipe.sizes, seconds)
        cells = (pipe.unet, pipe.vae, pipe.vocoder, pipe.text_encoder)
        parameters = sum(math.prod(one.shape) for cell in cells for one in cell.get_parameters())
        needed = sum(memory(pipe.sizes, parameters, batch, lines).values())
        raise InputError(
            f"out of memory with {batch} {'waveform' if batch == 1 else 'waveforms'} at a time, which takes about "
            f"{needed / 1e9:.1f} GB; make fewer at a time, or shorter ones"
        ) from error


def stored_tensors(folder):
    """The tensors of each part of a folder, of which only headers are read."""
    return {part: open_weights(os.path.join(folder, part)).values() for part in PARTS}


def parameter_counts(tensors):
    """How many numbers each part has, of what `stored_tensors` found."""
    return {part: sum(math.prod(one.shape) for one in those) for part, those in tensors.items()}


def describe(folder, seconds=10.0, batch=1, with_table=False, **where):
    """A text that says what a model is.

    Args:
        folder (str): a model folder.
        seconds (float): length of the music to plan for.
        batch (int): waveforms at a time to plan for.
        with_table (bool): add the memory for other numbers of waveforms.
        where: not used: such a folder names nothing outside.

    Raises:
        InputError: if the folder is not a model, or the plan makes no sense.
    """
    if not settings.SHORTEST <= seconds <= settings.LONGEST or batch < 1:
        raise InputError(
            f"cannot plan for {seconds} s and {batch} prompts; expected more than 0 s and at least 1 prompt"
        )
    folder = resolve_pipeline(resolve(folder))
    clap, unet, vae, vocoder = (networks.read_part(folder, part) for part in PARTS)
    sizes, scheduler = settings.Sizes(unet, vae, vocoder), open_scheduler(folder.file(SCHEDULER))
    tensors = stored_tensors(folder)
    counts, stored = parameter_counts(tensors), {str(one.dtype) for part in tensors.values() for one in part}
    planned = min(seconds, sizes.longest)
    _, lines, _ = settings.length(sizes, planned)
    step, decoding = work(sizes, lines)
    ranks = clap.audio is not None and os.path.isfile(folder.file(EXTRACTOR))
    name = read_json(folder.file("model_index.json"))["_class_name"].removesuffix("Pipeline")
    parts = memory(sizes, sum(counts.values()), batch, lines)
    said = ", ".join(f"{part} {size / 1e9:.2f}" for part, size in parts.items())
    times = [(count * step + decoding) * batch / SPEED for count in (200, 20)]
    made = [
        f"{printable(folder)}: {name}, music, {vocoder.sampling_rate} Hz mono, diffusers' layout",
        f"  text          CLAP, {clap.text.num_hidden_layers} layers of {clap.text.hidden_size}, at most "
        f"{clap.text.longest} tokens, {'ranks' if ranks else 'does not rank'}, {counts['text_encoder'] / 1e6:.1f} M "
        "parameters",
        *(
            f"  {part:13} widths {' '.join(map(str, one.block_out_channels))}, {counts[part] / 1e6:.1f} M parameters"
            for part, one in (("unet", unet), ("vae", vae))
        ),
        f"  vocoder       HiFi-GAN, {counts['vocoder'] / 1e6:.1f} M parameters",
        f"  scheduler     {type(scheduler).__name__}",
        f"  length        trained on {sizes.longest:.2f} s; {lines} lines of latents for {planned:.3g} s",
        f"  stored as     {', '.join(sorted(stored))}",
        f"  memory        {sum(parts.values()) / 1e9:.2f} GB for batch {batch}, float32 (estimate: {said})",
        f"  work          {step / 1e9:.3g} GFLOP a step with guidance, {decoding / 1e9:.3g} for picture and sound",
        f"  time          about {times[0]:.0f} s for 200 steps, {times[1]:.0f} s for 20, on two CPU cores with AVX-512",
    ]
    room, by = memory_limits.room()
    if room:
        made.append(f"  room here     {room / 1e9:.2f} GB, as {by} leaves")
    if with_table:
        made.append("  GB at the peak, computed" + "".join(f"{f'batch {count}':>10}" for count in (1, 2, 4, 8, 16)))
        row = (sum(memory(sizes, sum(counts.values()), count, lines).values()) for count in (1, 2, 4, 8, 16))
        made.append(f"    {'float32':<22}" + "".join(f"{size / 1e9:>10.1f}" for size in row))
    return "\n".join(made)
