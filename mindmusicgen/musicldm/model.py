"""MusicLDM as its users know it: `from_pretrained`, a call with prompts, `save_pretrained`.

A prompt becomes a vector (CLAP); noise becomes latents, step by step (the UNet and a scheduler); these a spectrogram
(the autoencoder), and that sound (the vocoder). Chen et al., arXiv:2308.01546; AudioLDM, arXiv:2301.12503, is the same.
"""

from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ..clap.scorer import open_scorer, ranked
from ..dtypes import resolve_dtype
from ..errors import InputError, shown
from ..habits import opening
from ..outputs import Output
from ..runtime import device as devices
from ..runtime.callers import Single, Unfinished, alone, serialised
from ..runtime.compiled import compiled, fingerprint
from ..runtime.telling import tell
from . import settings
from .checkpoint import folder as folders
from .checkpoint import networks
from .progress import Work
from .schedulers import STATE, Scheduler


@dataclass
class AudioPipelineOutput(Output):
    """What a call returns.

    Attributes:
        audios (numpy.ndarray | Tensor): [prompts * n, samples] float32, from -1 to 1, those of a prompt one behind the
            other, the best first where they were ranked; with output_type "latent" the latents.
        scores (numpy.ndarray): how well each fits its prompt, [prompts, n], the cosine of CLAP's vectors; None where
            nothing was ranked.
        seeds (tuple[int]): of each waveform; giving one again gives the waveform again.
    """

    audios: object = None
    scores: np.ndarray = None
    seeds: tuple = None


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


class MusicLDMPipeline(Single):
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
        self._to_mel = compiled(vae.construct, fingerprint(vae.config))
        self._to_audio = compiled(vocoder.construct, fingerprint(vocoder.config))
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
            dtype (str | mindspore.dtype): of the UNet, float32, float16, or bfloat16 on Ascend; None or "auto": float16
                on Ascend, float32 on a CPU. All else is float32. torch_dtype is the same.
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
        chosen = resolve_dtype(dtype)
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
    def scheduler(self):
        """Turns predicted noise into latents; one of `schedulers.SCHEDULERS`."""
        return self._scheduler

    @scheduler.setter
    def scheduler(self, value):
        if not isinstance(value, Scheduler):
            raise InputError(
                f"scheduler is {shown(value)}; expected such as DDIMScheduler.from_config(...) of this package"
            )
        self._scheduler = value

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

    @property
    def sampling_rate(self):
        """Samples per second of the audio."""
        return self.sizes.sampling_rate

    @property
    def hop_length(self):
        """Samples for each frame of a spectrogram."""
        return self.sizes.hop_length

    @property
    def longest(self):
        """Seconds of audio that the model was trained on, and makes unless told otherwise."""
        return self.sizes.longest

    @property
    def columns(self):
        """Columns of latents."""
        return self.sizes.columns

    def enable_model_cpu_offload(self, gpu_id=0, **others):
        """In diffusers, keep all but the working part out of a GPU's memory. Here all lie in the memory of the device,
        and graphs share their weights: nothing changes, and a line says so."""
        tell("enable_model_cpu_offload changes nothing here: all parts stay in the memory of the device", error=True)

    enable_sequential_cpu_offload = enable_model_cpu_offload

    def enable_vae_slicing(self):
        """Waveforms are decoded one by one in any case."""

    disable_vae_slicing = enable_vae_slicing

    def stop(self):
        """End the running call with what its latents are by then; for a second thread."""
        self._unfinished.stop()

    def __call__(
        self,
        prompt=None,
        audio_length_in_s=None,
        num_inference_steps=settings.STEPS,
        guidance_scale=settings.GUIDANCE,
        negative_prompt=None,
        num_waveforms_per_prompt=1,
        eta=0.0,
        generator=None,
        latents=None,
        prompt_embeds=None,
        negative_prompt_embeds=None,
        return_dict=True,
        callback=None,
        callback_steps=1,
        cross_attention_kwargs=None,
        output_type="np",
        *,
        seed=None,
        progress=None,
    ):
        """Make music.

        Args:
            prompt (str | Sequence[str]): what to hear, the more descriptive the better.
            audio_length_in_s (float): seconds, 0.04 to 60; None: what the model was trained on, 10.24 s.
            num_inference_steps (int): 1 to 1000; more are better and slower.
            guidance_scale (float): how closely to follow the prompt; up to 1 there is no guidance, and half the work.
            negative_prompt (str | Sequence[str]): what not to hear, one for all or one for each prompt, such as "low
                quality, average quality".
            num_waveforms_per_prompt (int): more than 1 are ranked, the best of each prompt first.
            eta (float): DDIM's fresh noise, 0 to 1.
            generator (int | numpy.random.Generator | Sequence): a seed or a generator, or one for each waveform.
            latents (Tensor | numpy.ndarray): the noise to begin with, [waveforms, channels, lines, columns], a line for
                0.04 s.
            prompt_embeds, negative_prompt_embeds (Tensor | numpy.ndarray): vectors in place of texts, [prompts, size].
            return_dict (bool): False returns a tuple of the audio alone.
            callback (callable): called with step, timestep and latents; returning True stops.
            callback_steps (int): how many steps lie between two calls of it.
            cross_attention_kwargs (dict): {"scale": s} of a LoRA, without a meaning while there is none.
            output_type (str): "np" for an array, "ms" for a Tensor, "latent" for the latents.
            seed (int | Sequence[int]): waveform i uses seed + i, or its own of a list; None draws a fresh one.
            progress (bool): show a progress bar; None shows it in a terminal or notebook.

        Returns:
            AudioPipelineOutput, or a tuple with return_dict=False. Changing prompt, steps, guidance above 1 or the
            scheduler compiles nothing.

        Raises:
            InputError: naming the argument, what is wrong and what would be right.
            KeyboardInterrupt: if the user interrupts.
        """
        asked = {name: value for name, value in locals().items() if name not in ("self", "return_dict", "progress")}
        request = settings.resolve(self, asked)
        ranking = folders.check_scoring(self, request)
        with alone() as interrupts, self._unfinished.piece() as stopped:
            self._unfinished.works(stopped)
            with Work(request, progress, stopped, interrupts) as work:
                made = self._latents(request, work)
                if output_type != "latent":
                    made = self._audio(made, request.samples, work)
            scores, seeds = None, request.seeds
            if output_type == "latent":
                made = settings.as_diffusers(made)
            elif ranking:
                made, scores, seeds = self._ranked(made, request)
        made = Tensor(made) if output_type == "ms" else made
        return AudioPipelineOutput(made, scores, seeds) if return_dict else (made,)

    @serialised
    def encode_prompt(self, prompt):
        """The vectors of texts, as prompt_embeds takes them.

        Args:
            prompt (str | Sequence[str]): texts.

        Returns:
            numpy.ndarray: [texts, size] float32, each of length 1.
        """
        texts = [prompt] if isinstance(prompt, str) else list(prompt)
        known = {}
        for text in texts:
            if text not in known:
                known[text] = self._embed(*map(Tensor, self.tokenizer(text))).asnumpy()[0]
        return np.stack([known[text] for text in texts])

    def _vectors(self, request):
        """What the UNet reads of the texts, [waveforms, size], or twice as many rows, the negative prompts' first."""
        vectors = self.encode_prompt(request.prompts) if request.vectors is None else request.vectors
        vectors = vectors.repeat(request.copies, 0)
        if not request.guided:
            return Tensor(vectors)
        negative = request.negative_vectors
        negative = self.encode_prompt(request.negatives) if negative is None else negative
        return Tensor(np.concatenate([negative.repeat(request.copies, 0), vectors]))

    def _latents(self, request, work):
        """The steps: [waveforms, lines, columns, channels]."""
        table, vectors, channels = request.table, self._vectors(request), self.unet.config.in_channels
        noise = settings.Noise(request.seeds, (channels, request.lines, self.columns))
        start = noise.draw() if request.latents is None else settings.as_lines(request.latents)
        state = np.zeros((len(STATE), *start.shape), np.float32)
        state[0] = start * np.float32(table.start)
        state, fresh = Tensor(state), Tensor(np.zeros_like(start))
        step, guidance, calls = self._steps[request.guided], _one(request.guidance), len(table.timesteps)
        for call in range(calls):
            if table.noisy:
                fresh = Tensor(noise.draw())
            time, scale, matrix = _one(table.timesteps[call]), _one(table.scales[call]), Tensor(table.matrices[call])
            state, total = step(state, fresh, vectors, time, scale, matrix, guidance)
            if not np.isfinite(total.asnumpy()):
                raise InputError(
                    f"the latents are not finite after step {call + 1} of {calls}: the checkpoint is damaged, "
                    "dtype too narrow, or guidance_scale too large"
                )
            done = call - (calls - table.steps)  # PNDM's first calls are no steps of their own
            shown_now = request.callback is not None and done >= 0 and done % request.callback_steps == 0
            if shown_now:
                seen = settings.as_diffusers(state.asnumpy()[0])
                if request.callback(done, table.timesteps[call], seen) is True:
                    break
            if not work.step():
                break
        return state.asnumpy()[0]

    def _audio(self, latents, samples, work):
        """Waveforms, [waveforms, samples]; one after the other, so that one graph serves any number."""
        made = []
        for row in latents:
            mel = self._to_mel(Tensor(row[None] / np.float32(self.vae.config.scaling_factor)))
            work.decoded()
            made.append(self._to_audio(mel).asnumpy()[0, :samples])
            work.decoded()
        return np.stack(made)

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

    def _ranked(self, audio, request):
        """The waveforms of each prompt, the best first; their scores [prompts, n]; and their seeds."""
        order, scores = [], []
        for number, prompt in enumerate(request.prompts):
            own = np.arange(number * request.copies, (number + 1) * request.copies)
            found = self.scorer.scores(prompt, audio[own], self.sampling_rate)
            best = ranked(found)
            order.extend(own[best])
            scores.append(found[best])
        return audio[order], np.stack(scores), tuple(request.seeds[row] for row in order)


def _one(value):
    return Tensor(np.array([value], np.float32))
