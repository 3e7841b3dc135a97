"""What makes music: MusicLDM's call from prompts to audio, over the networks, however these are run.

`MusicLDMPipeline` runs its own networks, `mindir.runtime.MindIRMusicLDM` graphs out of files.
"""

from dataclasses import dataclass

import numpy as np
from mindspore import Tensor

from ..clap.judge import ranked
from ..errors import InputError, shown
from ..outputs import Output
from ..runtime.callers import alone, serialised
from . import settings
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


class Composer:
    """A mixin of what has `sizes`, `tokenizer`, `feature_extractor`, `can_rank`, `scorer` and `_unfinished`, and as
    functions of tensors `_embed` (ids, mask -> vector), `_steps` by whether there is guidance (see `model.Step`),
    `_to_mel` (latents -> spectrogram) and `_to_audio` (spectrogram -> samples)."""

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
                The default is MusicLDM's for AudioLDM too, where diffusers has 2.5.
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
        request = self._request(asked)
        ranking = settings.check_scoring(self, request)
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

    def _request(self, asked):
        """A call's arguments, checked."""
        return settings.resolve(self, asked)

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
        table, vectors, channels = request.table, self._vectors(request), self.sizes.unet.in_channels
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
            mel = self._to_mel(Tensor(row[None] / np.float32(self.sizes.vae.scaling_factor)))
            work.decoded()
            made.append(self._to_audio(mel).asnumpy()[0, :samples])
            work.decoded()
        return np.stack(made)

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
