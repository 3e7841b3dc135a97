"""`mindmusicgen generate` for Bark: settings and inputs, checked before a model is opened; and a piece's recipe."""

import contextlib
import os
from dataclasses import dataclass

from .. import __version__
from ..arguments import resolve_seeds
from ..checkpoint.fingerprint import checked_fingerprint
from ..errors import InputError
from ..families import SINGERS
from ..runtime.files import check_room, check_writable
from ..runtime.telling import quoted
from ..sound.recipe import bare_name
from . import settings, speech
from .presets import fitting
from .processing import BarkProcessor

OTHERS = {  # words of a job that are of no use here, by whose they are
    "models such as ucsd-reach/musicldm": ("steps", "scheduler"),
    "models of music, such as facebook/musicgen-small": (
        "guidance_scale",
        "extend_stride",
        "audio",
        "melody",
        "negative_prompt",
    ),
} | SINGERS


@dataclass(frozen=True)
class Work:
    """A job, checked, and the model that does it.

    Attributes:
        model (BarkModel | MindIRBark): opened.
        processor (BarkProcessor): of the model.
        prompts (list[str]): a text for each piece.
        voices (list): a voice for each text, or None; of a dialogue the dict of its speakers' voices.
        long (bool): speak texts of any length; dialogue (bool): of several speakers.
        options (dict): arguments of `generate`.
        seeds (tuple[int]): of the pieces.
        made_by (dict): model, weights and dtype, for the recipe.
        last (list): the last `BarkOutput` is kept in it, for its voice.
    """

    model: object
    processor: BarkProcessor
    prompts: list
    voices: list
    long: bool
    dialogue: bool
    options: dict
    seeds: tuple
    made_by: dict
    last: list

    def make(self, see=None):
        """The pieces: a list of (audio [1, samples], codes [K, frames], seed); of long texts without codes.

        Args:
            see (callable): called with how much of how much is done, of long texts for each part; returning False
                stops.
        """
        if self.long:
            pieces = zip(self.prompts, self.voices, self.seeds, strict=True)
            return [(self._speak(text, voice, seed, see), None, seed) for text, voice, seed in pieces]
        inputs, more = self.processor(self.prompts, voice_preset=self.voices), {"callback": see, "seed": self.seeds}
        made = self.model.generate(**inputs, **self.options, **more, return_dict_in_generate=True)
        self.last.append(made)
        audio = made.audio_values.asnumpy()
        clips = [audio[row : row + 1, :length] for row, length in enumerate(made.lengths)]
        return list(zip(clips, made.audio_codes, made.seeds, strict=True))

    def _speak(self, text, voice, seed, see):
        """A long text, or a dialogue."""
        named = {"voices": voice} if self.dialogue else {"voice_preset": voice}
        return self.model.speak(self.processor, text, **named, seed=seed, callback=see, **self.options).asnumpy()

    def save_voice(self, path):
        """Write the voice of the piece; returns the file."""
        return self.last[-1].save_voice(path)


def unused(folder):
    """Fields of a job that a model has no use for: what a page does not show. `folder` is the model's.

    Returns:
        set[str]
    """
    return {name for names in OTHERS.values() for name in names}


def prepare(job, folder, keep=None):
    """The work of a job.

    A model is opened last: whatever can be refused is refused before it takes its seconds and gigabytes.

    Args:
        job (commands.job.Job): what `generate` was asked for.
        folder (ModelFolder): of the model; None for exported files.
        keep (callable): is given the function that opens the model, and returns what that does, or did before.

    Returns:
        Work

    Raises:
        InputError: in one sentence.
    """
    _check(job)
    return _exported(job) if job.mindir else _opened(job, folder, keep)


def _exported(job):
    """The work of a job for exported files."""
    from .mindir.runtime import MindIRBark

    model = MindIRBark(job.mindir)  # which loads no graph before it is needed
    made_by = {"model": model.manifest["model"]}
    return _work(job, model.config, model.generation_config, model.processor, lambda: model, made_by)


def _opened(job, folder, keep):
    """The work of a job for a model folder."""
    from .checkpoint.folder import load_config, load_generation_config
    from .model import BarkModel

    where = {"cache_dir": job.cache_dir, "local_files_only": job.local_files_only}
    weights = checked_fingerprint(folder, job)
    config = load_config(folder, **where)
    defaults = load_generation_config(folder, config)
    processor = BarkProcessor.from_pretrained(folder, **where)
    named = {"quantization": job.quantization} if job.quantization not in (None, "none") else {}

    def opened():
        return BarkModel.from_pretrained(folder, dtype=job.dtype, **named, **where)

    made_by = {"model": job.model, "weights": weights}
    return _work(job, config, defaults, processor, (lambda: keep(opened)) if keep else opened, made_by)


def _work(job, config, defaults, processor, opened, made_by):
    """`Work`; `opened` is called for the model when all else has been checked."""
    options = _options(job, config, defaults)
    seeds = resolve_seeds(job.seed, job.pieces)
    chosen = settings.resolve(config, defaults, options, job.pieces, seeds)
    if job.output.lower().endswith(".wav") and not job.long:
        samples = chosen.frames(chosen.semantic.max_new_tokens) * config.codec_config.hop_length
        check_room(os.path.dirname(os.path.abspath(job.output)), "output", samples * (job.bit_depth or 16) // 8)
    prompts = [text for text in job.prompts for _ in range(job.copies)]
    voices = _voices(job, processor, chosen)
    if job.long:
        for text, voice in zip(prompts, voices, strict=True):
            speech.plan(processor, text, voice if _is_dialogue(job) else None)
    else:
        processor(prompts, return_tensors="np")
    model = opened()
    made_by |= {"dtype": str(model.dtype).lower()}
    return Work(model, processor, prompts, voices, job.long, _is_dialogue(job), options, seeds, made_by, [])


def _is_dialogue(job):
    """Whether the voices are those of named speakers."""
    return job.long and bool(job.voice) and all("=" in one for one in job.voice)


def _check(job):
    """Refuse what needs no look at the model."""
    job.refuse(OTHERS)
    if not job.prompts:
        raise InputError("Bark needs a text; say what is to be spoken, such as 'Hello [laughs]'")
    if job.output == "-":
        raise InputError("Bark speaks a piece as a whole, which is no stream; use --output FILE")
    for name, given in (("codes", job.codes), ("save-voice", job.save_voice)):
        if given and (job.long or job.pieces > 1):
            raise InputError(f"--{name} is of one piece; give one text of at most 256 tokens, without --long")
    for name, given in (("plot", job.plot), ("duration", job.duration), ("max-new-tokens", job.max_new_tokens)):
        if given and job.long:
            raise InputError(f"--{name} is of one piece; leave it out, or --long")
    if job.save_voice:
        if not job.save_voice.endswith(".npz"):
            raise InputError(f"voice {quoted(job.save_voice)} must end in .npz")
        check_writable(job.save_voice, "voice")


def _options(job, config, defaults):
    """Arguments of `generate` but for its inputs and seeds."""
    options = {name: getattr(job, name) for name in ("temperature", "top_k", "top_p", "max_new_tokens")}
    options["do_sample"] = False if job.greedy else None
    if job.duration is not None:
        options["max_new_tokens"] = settings.tokens_of(config, defaults, job.duration)
    return {name: value for name, value in options.items() if value is not None}


def _voices(job, processor, chosen):
    """What speaks each piece: a preset, None, or of a dialogue each speaker's."""

    def preset(name):
        return fitting(processor.preset(name), chosen, f"voice {quoted(name)}")

    given = job.voice or [None]
    if _is_dialogue(job):
        speakers = [one.split("=", 1) for one in given]
        return [{name: preset(voice) if voice else None for name, voice in speakers}] * job.pieces
    if len(given) == 1:
        return [given[0] and preset(given[0])] * job.pieces
    if len(given) != len(job.prompts):
        raise InputError(f"there are {len(given)} voices for {len(job.prompts)} prompts; give one, or one each")
    return [preset(voice) for voice in given for _ in range(job.copies)]


def memory_for(job, work):
    """Context that says what fits, when memory is too small for what is done in it."""
    if job.mindir:  # runs without the modules of the networks
        return contextlib.nullcontext()
    from .checkpoint.info import enough_memory

    return enough_memory(work.model, 1 if job.long else job.pieces)


def recipe(job, work, number, seed):
    """What made a piece, to be kept in its file, so that `--like` makes it again. Of files and folders it holds only
    the name, for the piece may be shared.

    Args:
        job (commands.job.Job): what was asked for.
        work (Work): what that came to.
        number (int): of the prompt.
        seed (int): of the piece.

    Returns:
        dict
    """
    made = {"mindmusicgen": __version__} | work.made_by
    made |= {"model": bare_name(made["model"]), "prompt": job.prompts[number]}
    if job.voice:
        one = len(job.voice) == len(job.prompts) > 1 and not job.long
        made["voice"] = [_bare_voice(voice) for voice in (job.voice[number : number + 1] if one else job.voice)]
    for name in ("long", "quantization", "normalize", "bit_depth"):
        if getattr(job, name) not in (None, False, "none"):
            made[name] = getattr(job, name)
    return made | work.options | {"seed": seed}


def _bare_voice(voice):
    """A voice without the folder of its file."""
    speaker, equals, name = voice.rpartition("=") if "=" in voice else ("", "", voice)
    return f"{speaker}{equals}{bare_name(name)}"
