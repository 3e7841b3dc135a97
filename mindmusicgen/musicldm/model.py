"""MusicLDM as its users know it: `from_pretrained`, a call with prompts, `save_pretrained`.

A prompt becomes a vector (CLAP); noise becomes latents, step by step (the UNet and a scheduler); these a spectrogram
(the autoencoder), and that sound (the vocoder). Chen et al., arXiv:2308.01546; AudioLDM, arXiv:2301.12503, is the same.
"""

import mindspore as ms
from mindspore import Tensor, nn, ops

from ..clap.scorer import open_scorer
from ..dtypes import resolve_dtype
from ..errors import InputError, shown
from ..habits import opening
from ..runtime import device as devices
from ..runtime.callers import Single, Unfinished, serialised
from ..runtime.compiled import compiled, fingerprint
from ..runtime.telling import tell
from . import settings
from .checkpoint import folder as folders
from .checkpoint import networks
from .generator import Composer
from .schedulers import STATE


class Step(nn.Cell):
    """One step of any scheduler: the noise is predicted and the state moves on.

    Args:
        unet (UNet): the network.
        guided (bool): whether there are two rows for each waveform, those of the negative prompts first.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, unet, guided):
        super().__init__(auto_prefix=False)
        self.unet, self.guided = unet, guided

    def construct(self, state, fresh, vectors, timestep, scale, matrix, guidance):
        """The next state, and the sum of its sample, which is NaN when something went wrong.

        Args:
            state (Tensor): [6, B, lines, columns, channels]; the sample is the first.
            fresh (Tensor): random numbers, [B, lines, columns, channels].
            vectors (Tensor): of the texts, [B or 2 B, size].
            timestep, scale, guidance (Tensor): [1] float32 each.
            matrix (Tensor): [6, 8]; see `schedulers.Table`.
        """
        sample = ops.gather(state, Tensor(0, ms.int32), 0)
        shape, x = sample.shape, sample * scale
        if self.guided:
            both = self.unet(ops.concat((x, x), 0), timestep, vectors)
            negative, positive = ops.split(both, shape[0], 0)
            noise = negative + guidance * (positive - negative)
        else:
            noise = self.unet(x, timestep, vectors)
        read = ops.concat((state.reshape(len(STATE), -1), noise.reshape(1, -1), fresh.reshape(1, -1)), 0)
        after = ops.MatMul()(matrix, read)
        return after.reshape(state.shape), ops.gather(after, Tensor(0, ms.int32), 0).sum()


class MusicLDMPipeline(Composer, Single):
    """Text to music by latent diffusion.

    Args:
        vae (VaeDecoder): latents to spectrograms.
        text_encoder (TextEncoder): prompts to vectors.
        tokenizer (PromptTokenizer): prompts to tokens.
        feature_extractor (FeatureConfig): how CLAP's audio side reads recordings, for ranking; None without one.
        unet (UNet): predicts noise.
        scheduler (Scheduler): may be replaced at any time, `pipe.scheduler = X.from_config(pipe.scheduler.config)`.
        vocoder (Vocoder): spectrograms to sound.

    Raises:
        InputError: if the parts do not fit each other.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    model_type = "musicldm"  # what `families` calls it

    def __init__(self, vae, text_encoder, tokenizer, feature_extractor, unet, scheduler, vocoder):
        self.vae, self.text_encoder, self.tokenizer = vae, text_encoder, tokenizer
        self.feature_extractor, self.unet, self.scheduler, self.vocoder = feature_extractor, unet, scheduler, vocoder
        folders.check_parts(self)
        self.scoring = None  # the scorer, once it is needed
        self.folder = None  # where it was opened: what is not computed here is saved from there
        self._embed = compiled(text_encoder.construct, fingerprint(text_encoder.config))
        key = fingerprint(unet.config, str(unet.dtype))
        self._steps = {guided: compiled(Step(unet, guided).construct, key + str(guided)) for guided in (True, False)}
        self._to_mel = compiled(vae.construct, fingerprint(vae.config, str(vae.dtype)))
        self._to_audio = compiled(vocoder.construct, fingerprint(vocoder.config, str(vocoder.dtype)))
        self._unfinished = Unfinished()

    @classmethod
    def from_pretrained(
        cls,
        model=None,
        dtype=None,
        revision=None,
        cache_dir=None,
        local_files_only=False,
        device=None,
        scheduler=None,
        **habits,
    ):
        """Open a checkpoint in diffusers' layout: model_index.json and a folder for each part.

        Args:
            model (str): folder or hub id, such as ucsd-reach/musicldm or cvssp/audioldm-s-full-v2.
            dtype (str | mindspore.dtype): of the UNet, float32, float16 or bfloat16; None or "auto": float16 on Ascend,
                float32 on a CPU. All else is float32. On a CPU bfloat16 needs a tile unit (AMX); there it is what
                weights have, of autoencoder and vocoder too, and products, whose sums are float32: less than
                half of float32's time. torch_dtype is the same.
            revision (str): branch, tag or commit on the hub.
            cache_dir (str): where downloads are kept.
            local_files_only (bool): do not ask the hub.
            device (str): CPU, Ascend, or Ascend:1 for the second NPU, for the whole process; None: what the
                environment's MINDMUSICGEN_DEVICE says, or MindSpore's choice.
            scheduler (Scheduler): in place of the checkpoint's.
            **habits: what else diffusers takes here.

        Raises:
            InputError: if there is no such device or model, or its files are damaged or of another pipeline.
        """
        model, dtype, device, left = opening(model, dtype, device, habits)
        for name in left:
            raise InputError(f"from_pretrained does not take {shown(name)}; the parts are those of the folder")
        devices.use(device)
        chosen = resolve_dtype(dtype, bfloat16_products=True)
        folder = folders.resolve_pipeline(model, revision, cache_dir, local_files_only)
        made = cls(**folders.open_parts(folder, chosen, scheduler))
        made.folder = folder
        return made

    @serialised
    def save_pretrained(self, save_directory, dtype=None, **habits):
        """Write a folder that diffusers opens.

        What is not computed here, the autoencoder's encoder and CLAP's audio side, is copied from where the pipeline
        was opened.

        Args:
            save_directory (str): where to write.
            dtype (str): how weights are stored, float32 or float16; None keeps their own.
            **habits: what else diffusers takes here.

        Raises:
            InputError: if the folder cannot be written, or the pipeline was not opened from a folder.
        """
        folders.save(self, save_directory, dtype, habits)

    @property
    def components(self):
        """The parts by name, as the constructor takes them."""
        names = ("vae", "text_encoder", "tokenizer", "feature_extractor", "unet", "scheduler", "vocoder")
        return {name: getattr(self, name) for name in names}

    @property
    def dtype(self):
        """What the UNet computes with."""
        return self.unet.dtype

    @property
    def device(self):
        """Where it computes: CPU, or Ascend:0."""
        target, number = devices.current()
        return target if target == "CPU" else f"{target}:{number or 0}"

    @property
    def sizes(self):
        """What decides how long pieces are: `settings.Sizes`."""
        return settings.Sizes(self.unet.config, self.vae.config, self.vocoder.config)

    def enable_model_cpu_offload(self, gpu_id=0, **others):
        """In diffusers, keep all but the working part out of a GPU's memory. Here all lie in the memory of the device,
        and graphs share their weights: nothing changes, and a line says so."""
        tell("enable_model_cpu_offload changes nothing here: all parts stay in the memory of the device", error=True)

    enable_sequential_cpu_offload = enable_model_cpu_offload

    def enable_vae_slicing(self):
        """Waveforms are decoded one by one in any case."""

    disable_vae_slicing = enable_vae_slicing

    @property
    def can_rank(self):
        """Whether the checkpoint's text encoder has an audio side, which compares sound with prompts."""
        return self.folder is not None and networks.read_part(self.folder, "text_encoder").audio is not None

    @property
    def scorer(self):
        """What ranks; opened when it is first needed.

        Raises:
            InputError: if the checkpoint has no audio side, or lacks feature_extractor.
        """
        if self.folder is None:
            raise InputError("this pipeline was put together from parts; one that from_pretrained has opened can rank")
        if self.scoring is None:
            places = map(self.folder.file, ("text_encoder", "tokenizer", "feature_extractor"))
            self.scoring = open_scorer(*places, self.text_encoder)
        return self.scoring
