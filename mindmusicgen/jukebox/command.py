"""`mindmusicgen generate` for Jukebox: what was asked for, checked before a model is opened; and a piece's recipe."""

import contextlib
import os
from dataclasses import dataclass

import numpy as np

from .. import __version__
from ..arguments import number, resolve_seeds
from ..audio import read_audio
from ..checkpoint.fingerprint import checked_fingerprint
from ..codes_file import load_codes
from ..errors import InputError, whole_number
from ..language import said
from ..runtime.files import check_folder
from ..runtime.progress import announce
from ..runtime.telling import quoted
from ..sound.recipe import RUN, bare_name, run_of
from . import settings
from .checkpoint.folder import load_config
from .codec import packed, unpacked
from .run_folder import bytes_in, bytes_of, given_codes, made_codes, piece_recipe
from .tokenizer import FILES, JukeboxTokenizer

OF_OTHERS = "mindir melody plot max_new_tokens guidance_scale negative_prompt voice long save_voice steps scheduler"
OF_OTHERS += " candidates scorer"
OTHERS = {"other models; Jukebox takes --artist, --genre and --lyrics": tuple(OF_OTHERS.split())}
SECONDS = 10.0  # of new music, if nothing else is said


@dataclass(frozen=True)
class Work:
    """A job, checked, and the model that does it.

    Attributes:
        model (JukeboxModel): opened.
        labels (list): of each prior.
        codes (list[numpy.ndarray]): that the run begins with, [copies, n] of each level.
        options (dict): further arguments of sampling.
        recipe (dict): of the run.
        fresh (bool): begin anew, whatever run is in the folder.
    """

    model: object
    labels: list
    codes: list
    options: dict
    recipe: dict
    fresh: bool

    def make(self, see=None):
        """The pieces: a list of (audio [1, samples], codes [rows, frames], seed); see `codec.packed`.

        Args:
            see (callable): called with how many of a level's steps are done; returning False stops.
        """
        watched = {} if see is None else {"callback": lambda level, done, steps: see(done, steps)}
        folder = self.options["output_dir"]
        if self.fresh:
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(folder, RUN))
        try:
            made = self.model._sample(self.codes, self.labels, recipe=self.recipe, **self.options, **watched)
            made = made[: len(self.options["sample_levels"])]  # the others end with the prompt
        except KeyboardInterrupt as interrupt:
            kept = said(f"the windows that are complete are in {quoted(folder)}, and --resume goes on")
            raise KeyboardInterrupt(kept) from interrupt
        audio = self.model.decode(made).asnumpy()[..., 0]
        rows = packed([one.asnumpy() for one in made], self.model.config.raws)
        return [(clip[None], one, seed) for clip, one, seed in zip(audio, rows, self.options["seed"], strict=True)]


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
        folder (ModelFolder): of the model.
        keep (callable): is given the function that opens the model, and returns what that does, or did before.

    Returns:
        Work

    Raises:
        InputError: in one sentence.
    """
    _check(job)
    config, weights = load_config(folder), checked_fingerprint(folder, job)
    where = {"cache_dir": job.cache_dir, "local_files_only": job.local_files_only}
    labels = labels_of(folder, job.artist or "", job.genre or "", job.lyrics or "", **where)
    sound, codes = _given(job, config)
    options = _options(job, config, codes)
    asked = {name: value for name, value in options.items() if name in settings.DEFAULTS}
    request = settings.resolve(config, config.raws, codes, labels, options["sample_levels"], asked)
    pieces = len(request.seeds) * request.length * (job.bit_depth or 16) // 8
    there = bytes_in(job.run_folder) if job.resume else 0
    check_folder(job.run_folder, "output", max(bytes_of(request) - there, 0) + pieces)
    _say_what_it_takes(job, config, request)

    def opened():
        return open_model(folder, job.dtype, job.quantization, **where)

    model = keep(opened) if keep else opened()
    if sound is not None:
        codes = [one.asnumpy() for one in model.encode(np.repeat(sound, job.copies, 0))]
    recipe = _recipe(job, weights, model, options["seed"])
    return Work(model, labels, codes, options, recipe, job.force and not job.resume)


def open_model(folder, dtype, quantization, **where):
    """The model of a folder; quantization may be "none"."""
    from .model import JukeboxModel

    quantization = None if quantization == "none" else quantization
    return JukeboxModel.from_pretrained(folder, dtype=dtype, quantization=quantization, **where)


def labels_of(folder, artist, genre, lyrics, **where):
    """Labels of each prior, of one song or of a list of each.

    Raises:
        InputError: if the folder has no lists of names, or the lyrics cannot be read.
    """
    missing = next((name for name in FILES.values() if not folder.has(name)), None)
    if missing:
        raise InputError(
            f"{folder} holds no {missing}, which turns names into numbers; put artists.json, genres.json and "
            "lyrics.json of the hub's model there"
        )
    tokenizer = JukeboxTokenizer.from_pretrained(folder, **where)
    return tokenizer(artist, genre, lyrics, return_tensors="np").input_ids


def _check(job):
    """Refuse what needs no look at the model."""
    job.refuse(OTHERS)
    if job.prompts:
        raise InputError("Jukebox takes no prompt; say what is sung with --lyrics, who sings with --artist, --genre")
    if not job.song:
        raise InputError("Jukebox needs to know what to sing; give --artist, --genre or --lyrics")
    if job.audio and len(job.audio) > 1:
        raise InputError(f"there are {len(job.audio)} audio prompts for one song; give one")


def _given(job, config):
    """The sound that a run goes on from, [1, samples, 1] or None; and its codes, before it is encoded only as many."""
    raws, empty = config.raws, [np.zeros((job.copies, 0), np.int32) for _ in config.raws]
    if job.resume:
        return None, given_codes(job.run_folder, config.nb_priors) or empty
    if job.upsample is not None:
        return None, _coarse_codes(job, config)
    if not job.audio:
        return None, empty
    (path,) = job.audio
    if path.endswith(".npz"):
        codes = unpacked(load_codes(path, config), raws)
        if len(codes[0]) not in (1, job.copies):
            raise InputError(f"codes {quoted(path)} are of {len(codes[0])} pieces; ask for as many --copies")
        return None, [np.repeat(one, job.copies // len(one), 0) for one in codes]
    sound = read_audio(path, config.sampling_rate, 1)
    whole = sound.shape[1] // raws[0] * raws[0]
    if not whole:
        raise InputError(
            f"the prompt {quoted(path)} has {sound.shape[1]} samples; expected at least {raws[0]}, those of a code"
        )
    return sound[:, :whole, None], [np.zeros((job.copies, whole // raw), np.int32) for raw in raws]


def _coarse_codes(job, config):
    """The codes to upsample: of a run's folder or of a file, of the samples that are kept."""
    if not os.path.isdir(job.upsample):
        codes = unpacked(load_codes(job.upsample, config), config.raws)
    else:
        found, wanted = made_codes(job.upsample, config.nb_priors), _wanted(job.upsample)
        if found[0] is None or found[0].shape[1:] != (wanted[0],):
            raise InputError(f"the top level of {quoted(job.upsample)} has not ended; go on with it by --resume first")
        empty = np.zeros((len(found[0]), 0), np.int32)
        codes = [
            one if one is not None and one.shape[1:] == (n,) else empty for one, n in zip(found, wanted, strict=False)
        ]
    rows = range(len(codes[0])) if job.keep is None else job.keep
    if max(rows) >= len(codes[0]):
        raise InputError(f"the codes of {quoted(job.upsample)} are damaged: they are of {len(codes[0])} samples")
    return [one[list(rows)] for one in codes]


def samples_of(seconds, rate):
    """A duration in samples.

    Raises:
        InputError: if it is none.
    """
    return int(number("duration", seconds, 0, above=True) * rate)


def _wanted(folder):
    """How many codes the levels of the run in a folder are to have."""
    found = run_of(folder).get("codes")
    if not isinstance(found, list) or not found or any(type(n) is not int or n < 1 for n in found):
        raise InputError(f"{os.path.join(folder, RUN)} is damaged: it does not say how many codes the run has")
    return found


def _options(job, config, codes):
    """Arguments of sampling but for codes and labels."""
    rate, raw, count = config.sampling_rate, config.raws[0], codes[0].shape[1]
    length = count * raw
    if job.resume:
        length = _wanted(job.run_folder)[0] * raw
    elif job.upsample is None:
        length += samples_of(SECONDS if job.duration is None else job.duration, rate)
    levels = whole_number("levels", config.nb_priors if job.levels is None else job.levels, 1)
    if levels > config.nb_priors:
        raise InputError(f"levels is {levels}; this model has {config.nb_priors}")
    names = ("temperature", "top_k", "top_p", "total_length", "offset", "extend_stride", "batch_size")
    given = {name: getattr(job, name) for name in names} | {"do_sample": False if job.greedy else None}
    seeds = resolve_seeds(job.seed, job.copies)
    made = {"sample_levels": list(range(levels)), "output_dir": job.run_folder, "resume": job.resume, "seed": seeds}
    return made | sampling(config, given, length)


def sampling(config, given, length):
    """Arguments of sampling from the words of a command or the settings of a line.

    Args:
        config (JukeboxConfig): of the model.
        given (dict): temperature, top_k, top_p, do_sample, total_length, offset, extend_stride, batch_size; None for
            what was not said.
        length (int): samples of the piece.

    Raises:
        InputError: for seconds that are none.
    """
    given = {name: value for name, value in given.items() if value is not None}
    named = {"temperature": "sampling_temperature", "total_length": "total_length_in_seconds"}
    made = {named.get(name, name): given[name] for name in ("top_k", "top_p", *named) if name in given}
    if given.get("do_sample") is False:
        made["top_k"] = 1
    if "offset" in given:
        made["offset"] = round(number("offset", given["offset"], 0) * config.sampling_rate)
    if "extend_stride" in given:  # windows of the top level move so many seconds, the others as usual
        window = config.prior_configs[0].n_ctx / config.frame_rate
        stride = number("extend_stride", given["extend_stride"], 0, window, above=True)
        made["hop_fraction"] = [stride / window, *config.hop_fraction[1:]]
    if "batch_size" in given:
        made |= dict.fromkeys(
            ("max_batch_size", "lower_batch_size"), whole_number("batch_size", given["batch_size"], 1)
        )
    return made | {"sample_length": length}


def _say_what_it_takes(job, config, request):
    """Tell whoever watches, before the model is opened, what the song comes to."""
    from .checkpoint.info import span, time_for

    numbers = "int8" if job.quantization == "int8" else "float32"
    seconds = sum(time_for(config, request.length, len(request.seeds), numbers)[level] for level in request.levels)
    announce(said(f"about {span(seconds)} on two CPU cores for all levels, if nothing of it is there yet"))


def memory_for(job, work):
    """Context that says what fits, when memory is too small for what is done in it."""
    from .checkpoint.info import enough_memory

    return enough_memory(work.model, job.copies)


def _recipe(job, weights, model, seeds):
    """What makes the run again: run.json holds it, so that --resume and --upsample need no other words."""
    if job.resume:
        return run_of(job.run_folder)["recipe"]
    name = os.path.abspath(job.model) if os.path.isdir(job.model) else job.model
    made = {"mindmusicgen": __version__, "model": name, "weights": weights, "dtype": str(model.dtype).lower()}
    if job.quantization not in (None, "none"):
        made["quantization"] = job.quantization
    names = ("artist", "genre", "lyrics", "duration", "total_length", "offset", "extend_stride", "temperature", "top_k")
    for field in (*names, "top_p", "normalize", "bit_depth"):
        if getattr(job, field) is not None:
            made[field] = getattr(job, field)
    if job.greedy:
        made["do_sample"] = False
    if job.audio:
        made["audio"] = [bare_name(path) for path in job.audio]
    if job.upsample is not None and not os.path.isdir(job.upsample):
        made["upsample"] = bare_name(job.upsample)
    elif job.upsample is not None:  # its pieces are those that the other run would have made
        before = run_of(job.upsample)["recipe"]
        made |= {name: before[name] for name in ("audio", "upsample") if name in before}
    return made | {"seed": list(seeds)}


def recipe(job, work, number, seed):
    """What made a piece, to be kept in its file, so that `--like` makes it again.

    Args:
        job (commands.job.Job): what was asked for.
        work (Work): what that came to.
        number (int): not used: there is one song.
        seed (int): of the piece.

    Returns:
        dict
    """
    return piece_recipe(work.recipe, seed)
