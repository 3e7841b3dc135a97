"""`mindmusicgen generate` for MusicLDM: what was asked for, checked before a model is opened; and a piece's recipe."""

import contextlib
import itertools
from dataclasses import dataclass

from .. import __version__
from ..arguments import number, resolve_seeds
from ..checkpoint.fingerprint import checked_fingerprint
from ..errors import InputError
from ..families import SINGERS
from ..language import said
from ..runtime.progress import announce
from ..sound.recipe import bare_name
from . import settings
from .schedulers import SHORT, open_scheduler

OF_CODES = "max_new_tokens extend_stride audio melody codes plot temperature top_k top_p greedy quantization"
OF_CODES += " voice long save_voice"
OTHERS = {"models of codes, such as facebook/musicgen-small": tuple(OF_CODES.split())} | SINGERS  # words of no use here


@dataclass(frozen=True)
class Work:
    """A job, checked, and the model that does it.

    Attributes:
        model (MusicLDMPipeline | MindIRMusicLDM): opened.
        prompts (list[str]): a text for each piece.
        options (dict): arguments of the call.
        seeds (tuple[int]): of the pieces.
        made_by (dict): model, weights and dtype, for the recipe.
    """

    model: object
    prompts: list
    options: dict
    seeds: tuple
    made_by: dict

    def make(self, see=None):
        """The pieces: a list of (audio [1, samples], no codes, seed).

        Args:
            see (callable): called with how many of how many steps are done; returning False stops.
        """
        calls, steps = itertools.count(1), self.options.get("num_inference_steps", settings.STEPS)
        watched = {} if see is None else {"callback": lambda *_: see(next(calls), steps) is False}
        made = self.model(self.prompts, seed=self.seeds, **self.options, **watched)
        return [(clip[None], None, seed) for clip, seed in zip(made.audios, self.seeds, strict=True)]


def unused(folder):
    """Fields of a job that a model has no use for: what a page does not show. `folder` is the model's.

    Returns:
        set[str]
    """
    return {name for names in OTHERS.values() for name in names}


def prepare(job, folder, keep=None):
    """The work of a job. The model is opened last: whatever can be refused is refused before.

    Args:
        job (commands.job.Job): what `generate` was asked for.
        folder (ModelFolder): of the model; None for exported files.
        keep (callable): is given the function that opens the model, and returns what that does, or did before.

    Returns:
        Work

    Raises:
        InputError: in one sentence.
    """
    job.refuse(OTHERS)
    if not job.prompts:
        raise InputError("MusicLDM needs a prompt; say what the music should be, such as 'calm piano'")
    if job.output == "-":
        raise InputError("MusicLDM makes a piece as a whole, which is no stream; use --output FILE")
    seeds, prompts = resolve_seeds(job.seed, job.pieces), [text for text in job.prompts for _ in range(job.copies)]
    model, options, made_by = _exported(job) if job.mindir else _opened(job, folder, keep)
    return Work(model, prompts, options, seeds, made_by | {"dtype": str(model.dtype).lower()})


def _exported(job):
    """Exported files, opened, the arguments of the call, and what the recipe says of them."""
    from .mindir.runtime import MindIRMusicLDM

    model = MindIRMusicLDM(job.mindir)  # which loads no graph before it is needed
    options, model.scheduler = _options(job, model.scheduler)
    model.check_duration(job.duration)
    return model, options, {"model": model.manifest["model"]}


def _opened(job, folder, keep):
    """The same of a model's folder."""
    from .checkpoint.folder import resolve_pipeline
    from .model import MusicLDMPipeline

    folder = resolve_pipeline(folder)
    options, scheduler = _options(job, open_scheduler(folder.file(settings.SCHEDULER)))
    made_by = {"model": job.model, "weights": checked_fingerprint(folder, job)}
    _say_what_it_takes(job, folder, options)

    def opened():
        return MusicLDMPipeline.from_pretrained(folder, dtype=job.dtype, scheduler=scheduler)

    model = keep(opened) if keep else opened()
    model.scheduler = scheduler  # a model that was kept may have had another
    return model, options, made_by


def _say_what_it_takes(job, folder, options):
    """Tell whoever watches, before the model is opened, what 200 steps come to."""
    from .checkpoint.info import estimate

    named = {"num_inference_steps": "steps", "guidance_scale": "guidance", "audio_length_in_s": "seconds"}
    given = {named[name]: value for name, value in options.items() if name in named}
    seconds, size = estimate(folder, job.pieces, **given)
    announce(said(f"about {seconds:.0f} s on two CPU cores, and {size / 1e9:.1f} GB of memory"))


def open_judge(job, folder):
    """What ranks candidates where nobody else was named: the model's own CLAP; as `prepare`.

    Raises:
        InputError: if it has none.
    """
    if job.mindir:
        from .mindir.runtime import MindIRMusicLDM

        model = MindIRMusicLDM(job.mindir)
        if not model.can_rank:
            raise InputError("these files hold nothing that ranks; give --scorer, or export with all --pieces")
        return model.scorer
    from ..clap.scorer import Scorer

    return Scorer.from_pretrained(folder)


def _options(job, scheduler):
    """Arguments of the call but for prompts and seeds, and the scheduler."""
    options = {"num_inference_steps": job.steps, "guidance_scale": job.guidance_scale}
    options |= {"negative_prompt": job.negative_prompt, "audio_length_in_s": job.duration}
    if isinstance(job.guidance_scale, tuple):
        raise InputError("guidance_scale is START:END, which is for MusicGen; give one number")
    if job.scheduler is not None:
        scheduler = SHORT[job.scheduler].from_config(scheduler.config)
    settings.check({name: value for name, value in options.items() if value is not None}, scheduler)
    if job.duration is not None:
        number("duration", job.duration, settings.SHORTEST, settings.LONGEST)
    return {name: value for name, value in options.items() if value is not None}, scheduler


def memory_for(job, work):
    """Context that says what fits, when memory is too small for what is done in it."""
    if job.mindir:  # runs without the modules of the networks
        return contextlib.nullcontext()
    from .checkpoint.info import enough_memory

    return enough_memory(work.model, len(work.prompts), job.duration)


def recipe(job, work, prompt, seed):
    """What made a piece, to be kept in its file, so that `--like` makes it again.

    Args:
        job (commands.job.Job): what was asked for.
        work (Work): what that came to.
        prompt (int): number of the prompt.
        seed (int): of the piece.

    Returns:
        dict
    """
    made = {"mindmusicgen": __version__} | work.made_by
    made |= {"model": bare_name(made["model"]), "prompt": job.prompts[prompt]}
    for name in ("negative_prompt", "duration", "steps", "guidance_scale", "scheduler", "normalize", "bit_depth"):
        if getattr(job, name) is not None:
            made[name] = getattr(job, name)
    return made | {"seed": seed}
