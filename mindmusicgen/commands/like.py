"""`generate --like FILE`: the recipe in a file takes the place of what the command line does not say."""

import os

from ..errors import InputError
from ..runtime.telling import quoted
from ..sound.recipe import is_shortened, recipe_of

NUMBER = (int, float)
KINDS = {  # what a recipe may hold, in the order of a message
    "model": str,
    "dtype": str,
    "prompt": str,
    "negative_prompt": str,
    "audio": list,
    "melody": list,
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
    "seed": int,
    "weights": str,
}
LENGTH = ("duration", "max_new_tokens")
SAMPLING = ("temperature", "top_k", "top_p")
TAKEN = ("dtype", "negative_prompt", "quantization", "guidance_scale", *SAMPLING, "extend_stride", "seed")


def read_recipe(path):
    """The recipe of a piece of music.

    Raises:
        InputError: if the file cannot be read, or its comment is no recipe of this package.
    """
    from ..audio import read_comment

    recipe = recipe_of(read_comment(path))
    if "seed" not in recipe or "model" not in recipe:
        raise InputError(f"{quoted(path)} does not say how it was made; give a file that generate or batch wrote")
    for name, kind in KINDS.items():
        if name in recipe and not isinstance(recipe[name], kind):
            raise InputError(f"the recipe in {quoted(path)} is damaged: {name} is a {type(recipe[name]).__name__}")
    return recipe


def make_like(arguments):
    """Fill in what the command line left out from the recipe of `arguments.like`.

    Raises:
        InputError: as `read_recipe`; and for what a recipe only names, if that is not found.
    """
    path, recipe = arguments.like, read_recipe(arguments.like)
    given = {name for name in (*TAKEN, *LENGTH) if getattr(arguments, name) is not None}
    for name in TAKEN:
        if name in recipe and name not in given:
            setattr(arguments, name, recipe[name])
    if not given.intersection(LENGTH):
        for name in LENGTH:
            setattr(arguments, name, recipe.get(name))
    if recipe.get("do_sample") is False and not given.intersection(SAMPLING):
        arguments.greedy = True
    if isinstance(arguments.guidance_scale, list):
        arguments.guidance_scale = tuple(arguments.guidance_scale)
    if not arguments.prompts and "prompt" in recipe:
        arguments.prompts = [recipe["prompt"]]
    for text in (*arguments.prompts, arguments.negative_prompt or ""):
        if text in recipe.values() and is_shortened(text):
            raise InputError(f"{quoted(path)} holds the beginning of its prompt alone, which was long; give it whole")
    for name in ("audio", "melody"):
        if getattr(arguments, name) is None and name in recipe:
            setattr(arguments, name, [_found(path, str(file), name) for file in recipe[name]])
    _sound(arguments, recipe)
    if arguments.model is None and arguments.mindir is None:
        arguments.model = _model(path, recipe["model"])
        arguments.weights = recipe.get("weights")


def _sound(arguments, recipe):
    """How the samples become a file; a bit depth belongs to a kind of file."""
    from ..audio import NORMALIZATIONS

    if arguments.normalize is None and recipe.get("normalize") in NORMALIZATIONS and arguments.output != "-":
        arguments.normalize = recipe["normalize"]
    same = os.path.splitext(arguments.output)[1].lower() == os.path.splitext(arguments.like)[1].lower()
    if arguments.bit_depth is None and same:
        arguments.bit_depth = recipe.get("bit_depth")


def _found(path, name, what):
    """A file that a recipe names, which knows no folders: here, or beside the piece."""
    for folder in ("", os.path.dirname(path)):
        if os.path.isfile(os.path.join(folder, name)):
            return os.path.join(folder, name)
    raise InputError(f"{quoted(path)} was made from the file {quoted(name)}, which is not here; give it with --{what}")


def _model(path, name):
    """The model that a recipe names."""
    if name == "demo" or name.count("/") == 1 or os.path.isdir(name):
        return name
    raise InputError(f"{quoted(path)} was made by a model in a folder {quoted(name)}; say where that is with --model")
