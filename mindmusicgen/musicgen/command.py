"""`mindmusicgen generate` for MusicGen: settings and inputs, checked before a model is opened; and a piece's recipe."""

import contextlib
import os
import warnings
from dataclasses import dataclass

import numpy as np

from .. import __version__
from ..arguments import resolve_seeds
from ..auto import AutoProcessor, kind_of, model_class
from ..checkpoint.fingerprint import checked_fingerprint
from ..codes_file import load_codes
from ..errors import InputError
from ..families import SINGERS
from ..runtime.files import check_room
from ..runtime.telling import quoted
from ..sound.recipe import bare_name
from . import settings
from .delay_pattern import undelay

MELODY = "musicgen_melody"
OTHERS = {  # words of a job that are of no use here, by whose they are
    "models such as ucsd-reach/musicldm": ("steps", "scheduler"),
    "models that speak, such as suno/bark-small": ("voice", "long", "save_voice"),
} | SINGERS


@dataclass(frozen=True)
class Work:
    """A job, checked, and the model that does it.

    Attributes:
        model (MusicgenForConditionalGeneration | MindIRMusicgen): opened.
        inputs (dict): what the processor made of prompts, audio and melodies; job of `generate`.
        options (dict): the other job.
        chosen (Settings): what the options and the model's own defaults come to.
        made_by (dict): model, weights and dtype, for the recipe.
    """

    model: object
    inputs: dict
    options: dict
    chosen: settings.Settings
    made_by: dict

    def make(self, see=None):
        """The pieces: a list of (audio [channels, samples], codes [K, frames], seed).

        Args:
            see (callable): called with how much of how much is done; returning False stops.
        """
        made = self.model.generate(**self.inputs, **self.options, callback=see, return_dict_in_generate=True)
        return list(zip(made.audio_values.asnumpy(), made.audio_codes.asnumpy(), made.seeds, strict=True))

    def stream(self, see=None):
        """The one piece while it is made, second by second.

        Args:
            see (callable): as in `make`.

        Yields:
            numpy.ndarray: audio, [channels, samples].

        Returns:
            codes [K, frames], seed.
        """
        seeds, columns = resolve_seeds(self.options["seed"], 1), Columns()
        watched = {"callback": see, "streamer": columns, "seed": seeds}
        for chunk in self.model.stream(**self.inputs, **self.options | watched):
            yield chunk.asnumpy()[0]
        return columns.codes(self.model.config.decoder), seeds[0]


class Columns:
    """A streamer that keeps what it is given, for the codes of a stream."""

    def __init__(self):
        self.given = []

    def put(self, columns):
        columns = columns.asnumpy()
        self.given.append(columns if columns.ndim == 2 else columns[:, None])

    def end(self):
        """Nothing follows, and nothing is to be done."""

    def codes(self, config):
        """The codes of the piece, [K, frames]; `config` is the decoder's."""
        return undelay(np.concatenate(self.given, axis=1)[None], config.audio_channels)[0]


def unused(folder):
    """Fields of a job that a model has no use for: what a page does not show.

    Args:
        folder (ModelFolder): of the model.

    Returns:
        set[str]
    """
    return {name for names in OTHERS.values() for name in names} | ({"melody"} if kind_of(folder) != MELODY else set())


def prepare(job, folder, keep=None):
    """The work of a job.

    A model is opened last: whatever can be refused is refused before it takes its seconds and gigabytes.

    Args:
        job (commands.job.Job): what `generate` was asked for.
        folder (ModelFolder): of the model; None for exported files.
        keep (callable): for a program that makes many pieces: is given the function that opens the model, and returns
            what that does, or did before. None opens it for one piece.

    Returns:
        Work

    Raises:
        InputError: in one sentence.
    """
    job.refuse(OTHERS)
    return _exported(job) if job.mindir else _opened(job, folder, keep)


def _exported(job):
    """The work of a job for exported files."""
    from .mindir.runtime import MindIRMusicgen

    model, options = MindIRMusicgen(job.mindir), _options(job)  # which loads no graph before it is needed
    chosen = _check_settings(job, model.config, model.generation_config, options)
    inputs = _inputs(job, model.config, model.processor)
    made_by = {"model": model.manifest["model"], "dtype": model.manifest["dtype"]}
    return _work(model, inputs, options, chosen, made_by)


def _opened(job, folder, keep):
    """The work of a job for a model folder."""
    from .checkpoint.folder import load_config, load_generation_config

    name, options = job.model or "demo", _options(job)
    where = {"cache_dir": job.cache_dir, "local_files_only": job.local_files_only}
    weights = checked_fingerprint(folder, job)
    if job.melody and kind_of(folder) != MELODY:
        raise InputError(
            f"--melody for a text model: {quoted(name)} follows words alone; use a model such as "
            "facebook/musicgen-melody, or leave --melody out"
        )
    config = load_config(folder, **where)
    chosen = _check_settings(job, config, load_generation_config(folder, config.decoder), options)
    inputs = _inputs(job, config, AutoProcessor.from_pretrained(folder, **where))

    def opened():
        return model_class(folder).from_pretrained(folder, dtype=job.dtype, quantization=job.quantization, **where)

    model = keep(opened) if keep else opened().run_eagerly()
    made_by = {"model": name, "weights": weights, "dtype": str(model.dtype).lower()}
    return _work(model, inputs, options, chosen, made_by)


def _work(model, inputs, options, chosen, made_by):
    """`Work`; without text and audio whatever the model likes."""
    if not inputs:
        inputs = dict(model.get_unconditional_inputs())
        options = options | {"guidance_scale": inputs.pop("guidance_scale", None)}
    return Work(model, inputs, options, chosen, made_by)


def memory_for(job, work):
    """Context that says what fits, when memory is too small for what is done in it."""
    if job.mindir:  # runs without the modules of the networks
        return contextlib.nullcontext()
    from .checkpoint.info import enough_memory

    options, model = work.options, work.model
    seconds = options["duration"] if "duration" in options else job.max_new_tokens / model.frame_rate
    return enough_memory(model, seconds, job.pieces)


def _options(job):
    """Arguments of `generate` but for its inputs."""
    options = {
        "do_sample": False if job.greedy else None,
        "guidance_scale": job.guidance_scale,
        "temperature": job.temperature,
        "top_k": job.top_k,
        "top_p": job.top_p,
        "seed": job.seed,
        "num_return_sequences": job.copies,
        "extend_stride": job.extend_stride,
    }
    if job.max_new_tokens is not None:
        return options | {"max_new_tokens": job.max_new_tokens}
    return options | {"duration": 10.0 if job.duration is None else job.duration}


def _check_settings(job, config, defaults, options):
    """Refuse settings that a model does not take, and music that the disk has no room for.

    Returns:
        Settings: what the job and the model's own defaults come to.
    """
    pieces = job.pieces
    asked = {name: value for name, value in options.items() if name != "seed"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `generate` will say it
        chosen = settings.resolve(config, defaults, asked, pieces, 0, options["seed"])
    if job.output.lower().endswith(".wav"):
        plan = chosen.plan
        samples = (plan.frames or plan.first) * config.audio_encoder.hop_length * config.decoder.audio_channels
        folder = os.path.dirname(os.path.abspath(job.output))
        check_room(folder, "output", pieces * samples * (job.bit_depth or 16) // 8)
    return chosen


def _inputs(job, config, processor):
    """What the processor makes of the prompts; empty if there are none."""
    audio = _audio_prompts(job, config)
    wanted = {"text": job.prompts or None, "audio": audio if isinstance(audio, list) else None}
    if job.melody:  # the processor's audio is the melody then
        wanted |= {"audio": job.melody, "audio_prompt": wanted["audio"], "truncation": not _slides(job)}
    elif config.model_type == MELODY:
        wanted["audio_prompt"] = wanted.pop("audio")
    inputs = {}
    if any(wanted[name] is not None for name in wanted if name != "truncation"):
        inputs = dict(processor(negative_text=job.negative_prompt, **wanted))
    if audio is not None and not isinstance(audio, list):
        inputs["audio_codes"] = audio
    return inputs


def _slides(job):
    """Whether the music is longer than the model hears at a time."""
    return job.max_new_tokens is None and (job.duration or 0) > settings.TRAINED_SECONDS


def _audio_prompts(job, config):
    """Files as a list of paths, codes as one array [B, K, frames], or None; one serves all prompts."""
    given = job.audio
    if not given:
        return None
    coded = [path.endswith(".npz") for path in given]
    if any(coded) and not all(coded):
        raise InputError("audio prompts are either audio files or .npz files of codes, not both at once")
    rows = max(len(job.prompts), 1)
    if not coded[0]:
        return given if len(given) == rows else given * rows
    codes = [load_codes(path, config) for path in given]
    shortest = min(one.shape[2] for one in codes)
    codes = np.concatenate([one[:, :, -shortest:] for one in codes])
    return np.repeat(codes, rows, axis=0) if len(codes) == 1 else codes


def recipe(job, work, number, seed):
    """What made a piece, to be kept in its file: the model's own settings too, so that `--like` makes it again. Of
    files and folders it holds only the name, for the piece may be shared.

    Args:
        job (commands.job.Job): what was asked for.
        work (Work): what that came to.
        number (int): of the prompt.
        seed (int): of the piece.

    Returns:
        dict
    """

    chosen, made = work.chosen, {"mindmusicgen": __version__} | work.made_by
    made["model"] = bare_name(made["model"])
    if job.prompts:
        made["prompt"] = job.prompts[number]
    for name in ("negative_prompt", "audio", "melody", "quantization", "normalize", "bit_depth"):
        value = getattr(job, name)
        if value:
            several = isinstance(value, list)
            made[name] = [bare_name(value[number if len(value) > 1 else 0])] if several else value
    start, end = chosen.guidance
    made |= {"do_sample": chosen.do_sample, "guidance_scale": start if start == end else [start, end]}
    if chosen.do_sample:
        made |= {name: getattr(chosen, name) for name in ("temperature", "top_k", "top_p")}
    left_out = ("seed", "num_return_sequences", "do_sample", "temperature", "top_k", "top_p")
    made |= {name: value for name, value in work.options.items() if name not in left_out and value is not None}
    return {name: value for name, value in made.items() if value not in (None, "none")} | {"seed": seed}
