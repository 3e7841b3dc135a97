"""`generate --like FILE`: the recipe in a file takes the place of what the command line does not say."""

import os
from dataclasses import replace

from ..errors import InputError
from ..runtime.telling import quoted
from ..sound.recipe import is_shortened, recipe_of
from .song import kept, run_recipe

NUMBER = (int, float)
KINDS = {  # what a recipe may hold, in the order of a message
    "model": str,
    "dtype": str,
    "prompt": str,
    "negative_prompt": str,
    "audio": list,
    "melody": list,
    "voice": list,
    "steps": int,
    "scheduler": str,
    "long": bool,
    "quantization": str,
    "normalize": str,
    "bit_depth": int,
    "do_sample": bool,
    "guidance_scale": (*NUMBER, list),
    "temperature": NUMBER,
    "top_k": int,
    "top_p": NUMBER,
    "duration": NUMBER,
    "max_new_tokens": int,
    "extend_stride": NUMBER,
    "seed": (int, list),
    "weights": str,
    "artist": str,
    "genre": str,
    "lyrics": str,
    "total_length": NUMBER,
    "offset": NUMBER,
    "upsample": str,
}
LENGTH = ("duration", "max_new_tokens")
SAMPLING = ("temperature", "top_k", "top_p")
TAKEN = ("dtype", "negative_prompt", "quantization", "guidance_scale", *SAMPLING, "extend_stride")
TAKEN += ("steps", "scheduler", "artist", "genre", "lyrics", "total_length", "offset")


def read_recipe(path):
    """The recipe of a piece of music, or of the run in a folder.

    Raises:
        InputError: if the file cannot be read, or its comment is no recipe of this package.
    """
    from ..audio import read_comment

    recipe = run_recipe(path) if os.path.isdir(path) else recipe_of(read_comment(path))
    if "seed" not in recipe or "model" not in recipe:
        raise InputError(
            f"{quoted(path)} does not say how it was made; give a file that generate or batch wrote, or a song's folder"
        )
    for name, kind in KINDS.items():
        if name in recipe and not isinstance(recipe[name], kind):
            raise InputError(f"the recipe in {quoted(path)} is damaged: {name} is a {type(recipe[name]).__name__}")
    return recipe


def make_like(job):
    """The job with what the command line left out filled in from the recipe of `job.like`.

    Raises:
        InputError: as `read_recipe`; and for what a recipe only names, if that is not found.
    """
    path, recipe = job.like, read_recipe(job.like)
    given = {name for name in (*TAKEN, *LENGTH) if getattr(job, name) is not None}
    wanted = [name for name in TAKEN if name not in given and not (name == "dtype" and job.mindir)]  # files have theirs
    filled = {name: recipe[name] for name in wanted if name in recipe}
    if not given.intersection(LENGTH):
        filled |= {name: recipe.get(name) for name in LENGTH}
    if recipe.get("do_sample") is False and not given.intersection(SAMPLING):
        filled["greedy"] = True
    if isinstance(filled.get("guidance_scale"), list):
        filled["guidance_scale"] = tuple(filled["guidance_scale"])
    if not job.prompts and "prompt" in recipe:
        filled["prompts"] = [recipe["prompt"]]
    texts = [filled.get(name, getattr(job, name)) or "" for name in ("negative_prompt", "lyrics")]
    for text in (*filled.get("prompts", job.prompts), *texts):
        if text in recipe.values() and is_shortened(text):
            raise InputError(f"{quoted(path)} holds the beginning of its prompt alone, which was long; give it whole")
    begun = job.resume or job.upsample is not None  # and has its prompt's codes
    for name in () if begun else ("audio", "melody", "voice"):
        if getattr(job, name) is None and name in recipe:
            filled[name] = [_found(path, str(file), name) for file in recipe[name]]
    if "upsample" in recipe and not begun:
        filled["upsample"] = _found(path, recipe["upsample"], "upsample")
    if recipe.get("long"):
        filled["long"] = True
    filled |= _seeds(job, recipe)
    if job.model is None and job.mindir is None:
        filled |= {"model": _model(path, recipe["model"]), "weights": recipe.get("weights")}
    return replace(job, **filled, **_sound(job, recipe))


def _seeds(job, recipe):
    """The seeds of the pieces, and of a run how many there are."""
    seeds = recipe["seed"]
    if isinstance(seeds, int):
        return {} if job.seed is not None else {"seed": seeds}
    if not seeds:
        raise InputError(f"the recipe in {quoted(job.like)} is damaged: seed is an empty list")
    if job.keep is not None:
        seeds = [seeds[i] for i in kept(job.keep, len(seeds))]
    filled = {"copies": len(seeds)} if job.copies == 1 else {}
    if job.seed is None:
        filled["seed"] = seeds if filled.get("copies", job.copies) == len(seeds) > 1 else seeds[0]
    return filled


def _sound(job, recipe):
    """How the samples become a file; a bit depth belongs to a kind of file."""
    from ..audio import NORMALIZATIONS

    filled = {}
    if job.normalize is None and recipe.get("normalize") in NORMALIZATIONS and job.output != "-":
        filled["normalize"] = recipe["normalize"]
    same = os.path.splitext(job.output)[1].lower() == os.path.splitext(job.like)[1].lower()
    if job.bit_depth is None and same:
        filled["bit_depth"] = recipe.get("bit_depth")
    return filled


def _found(path, name, what):
    """A file that a recipe names, which knows no folders: here, or beside the piece. Of a voice, the name may do."""
    speaker, equals, voice = name.rpartition("=") if what == "voice" else ("", "", name)
    if equals:  # of a dialogue
        return f"{speaker}={_found(path, voice, what)}"
    if what == "voice" and not name.endswith(".npz"):
        return name
    for folder in ("", os.path.dirname(path)):
        if os.path.isfile(os.path.join(folder, name)):
            return os.path.join(folder, name)
    raise InputError(f"{quoted(path)} was made from the file {quoted(name)}, which is not here; give it with --{what}")


def _model(path, name):
    """The model that a recipe names."""
    from ..checkpoint.source import SHIPPED  # whose threads, started here at the top, would take Ctrl-C

    if name in SHIPPED or name.count("/") == 1 or os.path.isdir(name):
        return name
    raise InputError(f"{quoted(path)} was made by a model in a folder {quoted(name)}; say where that is with --model")
