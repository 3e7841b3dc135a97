"""The configs of MusicLDM's networks, read from the JSON files of diffusers' and transformers' classes.

What a field asks for is built, or a sentence says that it is not: nothing is passed over.
"""

from dataclasses import dataclass

from ..checkpoint.fields import COUNT, Fields

PLAIN = {"down": "DownBlock2D", "up": "UpBlock2D"}
ATTENDING = {"down": "CrossAttnDownBlock2D", "up": "CrossAttnUpBlock2D"}


@dataclass(frozen=True)
class UNetConfig:
    """The UNet's sizes.

    Attributes:
        sample_size (int): lines of the latents that it was trained on; four frames of 0.01 s each.
        in_channels, out_channels (int): of latents, and of the noise.
        block_out_channels (tuple): width of each level.
        layers_per_block (tuple): ResNets of each level on the way down.
        down_heads, up_heads (tuple): attention heads of each block; 0 for a block without attention.
        mid_heads (int): those in the middle.
        norm_num_groups (int), norm_eps (float): of the norms.
        class_size (int): of the text's vector.
    """

    sample_size: int = 256
    in_channels: int = 8
    out_channels: int = 8
    block_out_channels: tuple = (128, 256, 384, 640)
    layers_per_block: tuple = (2, 2, 2, 2)
    down_heads: tuple = (0, 8, 8, 8)
    up_heads: tuple = (8, 8, 8, 0)
    mid_heads: int = 8
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    class_size: int = 512

    @property
    def time_embed_dim(self):
        """Size of what is said of time, and as much of the text."""
        return 4 * self.block_out_channels[0]


@dataclass(frozen=True)
class VaeConfig:
    """The sizes of the autoencoder's decoder."""

    latent_channels: int = 8
    out_channels: int = 1
    block_out_channels: tuple = (128, 256, 512)
    layers_per_block: int = 2
    norm_num_groups: int = 32
    scaling_factor: float = 1.075324296951294

    @property
    def stretch(self):
        """Frames of a spectrogram for each line of latents, and bins for each column."""
        return 1 << (len(self.block_out_channels) - 1)


@dataclass(frozen=True)
class VocoderConfig:
    """HiFi-GAN's sizes."""

    model_in_dim: int = 64
    sampling_rate: int = 16000
    upsample_initial_channel: int = 1024
    upsample_rates: tuple = (5, 4, 2, 2, 2)
    upsample_kernel_sizes: tuple = (16, 16, 8, 4, 4)
    resblock_kernel_sizes: tuple = (3, 7, 11)
    resblock_dilation_sizes: tuple = ((1, 3, 5),) * 3
    leaky_relu_slope: float = 0.1
    normalize_before: bool = False


def read_unet(values, path):
    """The UNet's config from the values of unet/config.json.

    Args:
        values (dict): of the file.
        path (str): the file, for errors.

    Returns:
        UNetConfig

    Raises:
        InputError: naming the field that is wrong, or asks for what is not built here.
    """
    fields = Fields(values, path)
    sizes = fields.wholes("block_out_channels", (320, 640, 1280, 1280))
    levels, groups = len(sizes), fields.whole("norm_num_groups", 32)
    heads = fields.wholes("attention_head_dim", 8, length=levels)  # counts heads in spite of its name
    if fields.get("num_attention_heads") is not None:
        heads = fields.wholes("num_attention_heads", None, length=levels)
    attending = {side: _blocks(fields, side, levels) for side in ("down", "up")}
    if any(size % groups for size in sizes) or any((2 * sizes[i]) % groups for i in range(levels)):
        fields.refuse("norm_num_groups", f"a divisor of the widths {list(sizes)}")
    for i, (size, count) in enumerate(zip(sizes, heads, strict=True)):
        used = attending["down"][i] or attending["up"][levels - 1 - i] or i == levels - 1
        if used and size % count:
            fields.refuse("attention_head_dim", f"divisors of the widths {list(sizes)}; it counts heads")
    widths = fields.wholes("cross_attention_dim", 1280, length=levels)
    if widths != sizes:
        fields.refuse("cross_attention_dim", f"{list(sizes)}, the widths: here every attention is self-attention")
    made = UNetConfig(
        sample_size=fields.whole("sample_size", 256, (1, 1 << 14)),
        in_channels=fields.whole("in_channels", 4),
        out_channels=fields.whole("out_channels", 4),
        block_out_channels=sizes,
        layers_per_block=fields.wholes("layers_per_block", 2, COUNT, levels),
        down_heads=tuple(n if on else 0 for n, on in zip(heads, attending["down"], strict=True)),
        up_heads=tuple(n if on else 0 for n, on in zip(reversed(heads), attending["up"], strict=True)),
        mid_heads=heads[-1],
        norm_num_groups=groups,
        norm_eps=fields.number("norm_eps", 1e-5, 0, 1e-2),
        class_size=fields.whole("projection_class_embeddings_input_dim", None),
    )
    if made.in_channels != made.out_channels:
        fields.refuse("out_channels", f"{made.in_channels}, as in_channels")
    if sizes[0] % 2:
        fields.refuse("block_out_channels", "an even first width, half of it cosines of time, half sines")
    _fixed_of_unet(fields)
    fields.finish()
    return made


def _blocks(fields, side, levels):
    """Which blocks of the way down or up have attention."""
    name, usual = f"{side}_block_types", [ATTENDING[side]] * (levels - 1)
    found = fields.get(name, [*usual, PLAIN["down"]] if side == "down" else [PLAIN["up"], *usual])
    kinds = [PLAIN[side], ATTENDING[side]]
    if not isinstance(found, list) or len(found) != levels or not all(kind in kinds for kind in found):
        fields.refuse(name, f"{levels} of {PLAIN[side]} and {ATTENDING[side]}, as many as block_out_channels")
    return [kind == ATTENDING[side] for kind in found]


def _fixed_of_unet(fields):
    if fields.get("class_embed_type") != "simple_projection":
        fields.refuse("class_embed_type", "'simple_projection'")
    if fields.get("class_embeddings_concat") is not True:
        fields.refuse("class_embeddings_concat", "true")
    fields.fixed(
        act_fn="silu",
        center_input_sample=False,
        flip_sin_to_cos=True,
        freq_shift=0,
        mid_block_type="UNetMidBlock2DCrossAttn",
        only_cross_attention=False,
        downsample_padding=1,
        mid_block_scale_factor=1,
        transformer_layers_per_block=1,
        reverse_transformer_layers_per_block=None,
        encoder_hid_dim=None,
        encoder_hid_dim_type=None,
        dual_cross_attention=False,
        use_linear_projection=False,
        addition_embed_type=None,
        num_class_embeds=None,
        resnet_time_scale_shift="default",
        resnet_skip_time_act=False,
        resnet_out_scale_factor=1.0,
        time_embedding_type="positional",
        time_embedding_dim=None,
        time_embedding_act_fn=None,
        timestep_post_act=None,
        time_cond_proj_dim=None,
        conv_in_kernel=3,
        conv_out_kernel=3,
        attention_type="default",
        mid_block_only_cross_attention=None,
        cross_attention_norm=None,
    )
    fields.unused("dropout", "upcast_attention", "addition_time_embed_dim", "addition_embed_type_num_heads")


def read_vae(values, path):
    """The decoder's config from the values of vae/config.json; arguments and errors as in `read_unet`.

    Returns:
        VaeConfig
    """
    fields = Fields(values, path)
    sizes, groups = fields.wholes("block_out_channels", (64,)), fields.whole("norm_num_groups", 32)
    if any(size % groups for size in sizes):
        fields.refuse("norm_num_groups", f"a divisor of the widths {list(sizes)}")
    if fields.get("up_block_types", ["UpDecoderBlock2D"]) != ["UpDecoderBlock2D"] * len(sizes):
        fields.refuse("up_block_types", f"{len(sizes)} of UpDecoderBlock2D, as many as block_out_channels")
    made = VaeConfig(
        latent_channels=fields.whole("latent_channels", 4),
        out_channels=fields.whole("out_channels", 3, (1, 1)),
        block_out_channels=sizes,
        layers_per_block=fields.whole("layers_per_block", 1, COUNT),
        norm_num_groups=groups,
        scaling_factor=fields.number("scaling_factor", 0.18215, 1e-6, 1e6),
    )
    fields.fixed(act_fn="silu", mid_block_add_attention=True, use_post_quant_conv=True)
    fields.fixed(latents_mean=None, latents_std=None, shift_factor=None)
    fields.unused("in_channels", "down_block_types", "sample_size", "force_upcast", "use_quant_conv")
    fields.finish()
    return made


def read_vocoder(values, path):
    """The vocoder's config from the values of vocoder/config.json; arguments and errors as in `read_unet`.

    Returns:
        VocoderConfig
    """
    fields, usual = Fields(values, path), VocoderConfig()
    rates = fields.wholes("upsample_rates", (4, 4, 4, 4), (1, 64))
    kernels = fields.wholes("upsample_kernel_sizes", (8, 8, 8, 8), (1, 256), len(rates))
    if any(size < rate or (size - rate) % 2 and rate == 1 for size, rate in zip(kernels, rates, strict=True)):
        fields.refuse("upsample_kernel_sizes", f"at least upsample_rates {list(rates)} each")
    channels = fields.whole("upsample_initial_channel", 512, (1, 1 << 14))
    if channels % (1 << len(rates)):
        fields.refuse("upsample_initial_channel", f"a multiple of {1 << len(rates)}")
    sizes = fields.wholes("resblock_kernel_sizes", (3, 7, 11), (1, 63))
    if any(size % 2 == 0 for size in sizes):
        fields.refuse("resblock_kernel_sizes", "odd numbers")
    dilations = fields.get("resblock_dilation_sizes", [[1, 3, 5]] * 3)
    sound = isinstance(dilations, list) and len(dilations) == len(sizes)
    sound = sound and all(isinstance(one, list) and 0 < len(one) <= 8 for one in dilations)
    if not sound or any(type(n) is not int or not 1 <= n <= 64 for one in dilations for n in one):
        fields.refuse("resblock_dilation_sizes", f"{len(sizes)} lists of whole numbers from 1 to 64")
    made = VocoderConfig(
        model_in_dim=fields.whole("model_in_dim", 80, (1, 1024)),
        sampling_rate=fields.whole("sampling_rate", usual.sampling_rate, (1000, 200000)),
        upsample_initial_channel=channels,
        upsample_rates=rates,
        upsample_kernel_sizes=kernels,
        resblock_kernel_sizes=sizes,
        resblock_dilation_sizes=tuple(map(tuple, dilations)),
        leaky_relu_slope=fields.number("leaky_relu_slope", 0.1, 0, 1),
        normalize_before=fields.flag("normalize_before", True),
    )
    fields.general()
    fields.finish()
    return made
