"""What a call asks for: every argument checked, before anything long begins."""

import math
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Tensor

from ..arguments import as_array, number, resolve_seeds
from ..errors import InputError, shown, whole_number
from ..runtime.telling import tell
from .config import UNetConfig, VaeConfig, VocoderConfig
from .schedulers import DDIMScheduler, Table

SHORTEST, LONGEST = 0.04, 60.0  # seconds
STEPS, GUIDANCE = 200, 2.0  # unless a call says otherwise
OUTPUTS = ("np", "ms", "latent")
SCHEDULER = "scheduler/scheduler_config.json"  # files of a folder in diffusers' layout
EXTRACTOR = "feature_extractor/preprocessor_config.json"


@dataclass
class Request:
    """A call's arguments, checked.

    Attributes:
        prompts (list[str]): one for each group of waveforms; None where vectors were given.
        negatives (list[str]): as many, or None.
        vectors, negative_vectors (numpy.ndarray): [prompts, size] float32 in their place, or None.
        copies (int): waveforms of each prompt.
        seconds (float): of audio.
        lines (int): of latents.
        samples (int): of audio.
        guidance (float): above 1 where it is on.
        table (Table): the scheduler's coefficients.
        seeds (tuple[int]): of each waveform.
        latents (numpy.ndarray): [waveforms, channels, lines, columns] float32, or None.
        callback (callable), callback_steps (int): as in the call.
        output_type (str): "np", "ms" or "latent".
    """

    prompts: list
    negatives: list
    vectors: np.ndarray
    negative_vectors: np.ndarray
    copies: int
    seconds: float
    lines: int
    samples: int
    guidance: float
    table: Table
    seeds: tuple
    latents: np.ndarray
    callback: object
    callback_steps: int
    output_type: str

    @property
    def groups(self):
        """How many prompts there are."""
        return len(self.prompts if self.prompts is not None else self.vectors)

    @property
    def rows(self):
        """How many waveforms are made."""
        return self.groups * self.copies

    @property
    def guided(self):
        """Whether the negative prompt counts."""
        return self.guidance > 1


@dataclass(frozen=True)
class Sizes:
    """What of a pipeline decides how long its pieces are, without the networks.

    Attributes:
        unet (UNetConfig), vae (VaeConfig), vocoder (VocoderConfig): sizes.
    """

    unet: UNetConfig
    vae: VaeConfig
    vocoder: VocoderConfig

    @property
    def sampling_rate(self):
        """Samples per second of the audio."""
        return self.vocoder.sampling_rate

    @property
    def hop_length(self):
        """Samples for each frame of a spectrogram."""
        return math.prod(self.vocoder.upsample_rates)

    @property
    def longest(self):
        """Seconds of audio that the model was trained on, and makes unless told otherwise."""
        return self.unet.sample_size * self.vae.stretch * self.hop_length / self.sampling_rate

    @property
    def columns(self):
        """Columns of latents."""
        return self.vocoder.model_in_dim // self.vae.stretch


def resolve(pipe, arguments):
    """Check a call's arguments.

    Args:
        pipe (Composer): whose sizes and scheduler count.
        arguments (dict): of the call, by name.

    Returns:
        Request

    Raises:
        InputError: naming the argument, what is wrong and what would be right.
    """
    one = arguments.get
    prompts, vectors = _given(pipe, "prompt", one("prompt"), one("prompt_embeds"))
    groups = len(prompts if prompts is not None else vectors)
    copies = whole_number("num_waveforms_per_prompt", one("num_waveforms_per_prompt"), 1)
    guidance = number("guidance_scale", one("guidance_scale"), -math.inf)
    negatives, negative_vectors = _negative(
        pipe, one("negative_prompt"), one("negative_prompt_embeds"), groups, vectors
    )
    if guidance <= 1 and (one("negative_prompt") or negative_vectors is not None):
        tell(
            f"guidance_scale is {guidance:g}: up to 1 there is no guidance, and the negative prompt is ignored",
            error=True,
        )
    seconds, lines, samples = length(pipe.sizes, one("audio_length_in_s"))
    if seconds > pipe.longest + 1e-6:
        trained = f"the model was trained on {pipe.longest:g} s and may fall silent"
        tell(f"audio_length_in_s is {seconds:g}; {trained}", error=True)
    _check_rest(arguments)
    latents = one("latents")
    if latents is not None:
        latents = _latents(pipe, latents, seconds, groups * copies, lines)
    return Request(
        prompts,
        negatives,
        vectors,
        negative_vectors,
        copies,
        seconds,
        lines,
        samples,
        guidance,
        _table(pipe.scheduler, one("num_inference_steps"), one("eta")),
        seeds_of(one("generator"), one("seed"), groups * copies),
        latents,
        one("callback"),
        whole_number("callback_steps", one("callback_steps"), 1),
        one("output_type"),
    )


def _given(pipe, name, texts, vectors):
    """A list of texts, or an array of vectors."""
    if texts is not None and vectors is not None:
        raise InputError(f"{name} and {name}_embeds were both given; give one of them")
    if texts is None and vectors is None:
        raise InputError(f"the call lacks its input; give {name}, such as 'calm piano', or {name}_embeds")
    if vectors is not None:
        return None, _vectors(pipe, f"{name}_embeds", vectors)
    return _texts(name, texts), None


def _texts(name, texts):
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{name} is {shown(texts)}; expected a text, or a list of texts")
    if not texts:
        raise InputError(f"{name} is an empty list; give at least one text")
    return list(texts)


def _vectors(pipe, name, value):
    array = as_array(name, value, 2).astype(np.float32)
    if not len(array) or array.shape[1] != pipe.sizes.unet.class_size or not np.isfinite(array).all():
        raise InputError(
            f"{name} has shape {array.shape}; expected finite numbers, (prompts, {pipe.sizes.unet.class_size})"
        )
    return array


def _negative(pipe, texts, vectors, groups, prompt_vectors):
    """Negative texts, one for each prompt, or vectors."""
    if texts is not None and vectors is not None:
        raise InputError("negative_prompt and negative_prompt_embeds were both given; give one of them")
    if vectors is not None:
        vectors = _vectors(pipe, "negative_prompt_embeds", vectors)
        if prompt_vectors is not None and vectors.shape != prompt_vectors.shape or len(vectors) != groups:
            raise InputError(f"negative_prompt_embeds has {len(vectors)} rows for {groups} prompts; give one for each")
        return None, vectors
    several = isinstance(texts, (list, tuple))
    texts = [""] if texts is None else _texts("negative_prompt", texts)
    if several and len(texts) != groups:
        raise InputError(
            f"negative_prompt has {len(texts)} entries for {groups} prompts; give one text, or one for each"
        )
    return texts if several else texts * groups, None


def length(sizes, seconds):
    """Seconds, lines of latents and samples of audio.

    Args:
        sizes (Sizes): of the networks.
        seconds (float): that were asked for; None: what the model was trained on.

    Raises:
        InputError: if that is no length.
    """
    seconds = sizes.longest if seconds is None else number("audio_length_in_s", seconds, SHORTEST, LONGEST)
    rate = sizes.sampling_rate
    frames = max(round(seconds * rate / sizes.hop_length), 1)
    return seconds, -(-frames // sizes.vae.stretch), round(seconds * rate)


def check(asked, scheduler):
    """Refuse steps and guidance that no call takes, for those that plan.

    Args:
        asked (dict): arguments of a call.
        scheduler (Scheduler): of the call.
    """
    number("guidance_scale", asked.get("guidance_scale", GUIDANCE), -math.inf)
    scheduler.table(asked.get("num_inference_steps", STEPS))


def _table(scheduler, steps, eta):
    eta = number("eta", eta, 0, 1)
    if eta and not isinstance(scheduler, DDIMScheduler):
        tell(f"eta is {eta:g}, which belongs to DDIMScheduler; {type(scheduler).__name__} ignores it", error=True)
        eta = 0.0
    return scheduler.table(steps, eta)


def _check_rest(arguments):
    """Arguments of which only some values have a meaning."""
    kind, callback, scale = (arguments.get(name) for name in ("output_type", "callback", "cross_attention_kwargs"))
    if kind == "pt":
        raise InputError("output_type is 'pt', torch's; write 'np' for NumPy arrays or 'ms' for MindSpore tensors")
    if kind not in OUTPUTS:
        raise InputError(f"output_type is {shown(kind)}; expected one of {', '.join(OUTPUTS)}")
    if callback is not None and not callable(callback):
        raise InputError(f"callback is {shown(callback)}; expected a function of step, timestep and latents")
    if scale is not None and (not isinstance(scale, dict) or set(scale) - {"scale"}):
        raise InputError(
            f"cross_attention_kwargs is {shown(scale)}; only {{'scale': number}}, LoRA's, has a meaning here"
        )
    if scale:
        number("scale in cross_attention_kwargs", scale["scale"], -math.inf)


def _latents(pipe, latents, seconds, rows, lines):
    array = as_array("latents", latents, 4)
    wanted = (rows, pipe.sizes.unet.in_channels, lines, pipe.columns)
    if array.shape != wanted:
        raise InputError(f"latents have shape {array.shape}; {seconds:g} s of {rows} waveforms need {wanted}")
    if not np.isfinite(array).all():
        raise InputError("latents hold NaN or infinite numbers; expected random numbers of deviation 1")
    return array.astype(np.float32)


def seeds_of(generator, seed, rows):
    """A seed for each waveform.

    Args:
        generator (int | numpy.random.Generator | Sequence): a seed or a generator, or one for each; anything with an
            `initial_seed()`, such as torch's, gives that.
        seed (int | Sequence[int]): the same under another name.
        rows (int): waveforms.

    Raises:
        InputError: if both are given, or there are not as many.
    """
    if generator is not None and seed is not None:
        raise InputError("generator and seed were both given; give one of them")
    given = seed if generator is None else generator
    if isinstance(given, np.random.Generator):
        return tuple(int(one) for one in given.integers(0, 1 << 31, rows))
    if isinstance(given, (list, tuple)):
        given = [_seed_of(one) for one in given]
    elif given is not None:
        given = _seed_of(given)
    return resolve_seeds(given, rows)


def _seed_of(one):
    if isinstance(one, np.random.Generator):
        return int(one.integers(0, 1 << 31))
    asked = getattr(one, "initial_seed", None)
    return int(asked()) if callable(asked) else one


def check_scoring(pipe, request):
    """Whether waveforms will be ranked; tell, or refuse, before any work, if several of a prompt cannot be.

    Raises:
        InputError: if the checkpoint has what ranks, but not how recordings are prepared for it.
    """
    if request.copies == 1 or request.prompts is None or request.output_type == "latent":
        return False
    if not pipe.can_rank:
        tell("the waveforms are not ranked: this checkpoint's text encoder has no audio side", error=True)
        return False
    if pipe.feature_extractor is None:
        raise InputError(
            "num_waveforms_per_prompt above 1 ranks, for which the model's folder lacks feature_extractor; download it "
            "again, or give prompt_embeds"
        )
    return True


class Noise:
    """Normal numbers, a stream for each waveform: it gets the same alone and beside others.

    Args:
        seeds (Sequence[int]): one for each.
        shape (tuple[int]): of a waveform's latents, (channels, lines, columns).
    """

    def __init__(self, seeds, shape):
        self.streams, self.shape = [np.random.default_rng(seed) for seed in seeds], shape

    def draw(self):
        """Numbers of each waveform, [waveforms, lines, columns, channels] float32."""
        drawn = np.stack([stream.standard_normal(self.shape, np.float32) for stream in self.streams])
        return np.ascontiguousarray(drawn.transpose(0, 2, 3, 1))


def as_lines(latents):
    """[B, channels, lines, columns] -> [B, lines, columns, channels]"""
    return np.ascontiguousarray(latents.transpose(0, 2, 3, 1))


def as_diffusers(latents):
    """[B, lines, columns, channels] -> a Tensor [B, channels, lines, columns]"""
    return Tensor(np.ascontiguousarray(latents.transpose(0, 3, 1, 2)), ms.float32)
