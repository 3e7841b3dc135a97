"""`mindmusicgen info`: what a model is and needs, or how a piece of music was made."""

import contextlib
import os

from ..errors import InputError
from ..runtime.telling import tell
from ..sound.recipe import RUN, run_of
from . import flags

SAID = {"do_sample": "sampling", "weights": "fingerprint", "mindmusicgen": "made by mindmusicgen"}


def add_info(parser):
    """The words of `info`."""
    parser.usage = "mindmusicgen info MODEL|AUDIO [-d SECONDS] [--batch-size N] [options]"
    parser.epilog = flags.examples(
        "info out.wav",
        "info facebook/musicgen-small -d 30",
        "info demo --table",
        "info openai/jukebox-1b-lyrics --artist brown    # whom it can sing like",
    )
    parser.add_argument(
        "model", metavar="MODEL|AUDIO", help="folder or hub id of a model, or a file or folder that generate wrote"
    )
    parser.add_argument(
        "-d", "--duration", type=float, default=10.0, metavar="SECONDS", help="seconds of music to plan for (10)"
    )
    flags.add_batch_size(parser, 1, "prompts at a time to plan for (1)")
    parser.add_argument("--table", action="store_true", help="also the memory for other dtypes, lengths and batches")
    parser.add_argument("--artist", metavar="PART", help="of a Jukebox: artists that it knows, with this in their name")
    parser.add_argument("--genre", metavar="PART", help="the same of genres")
    parser.add_argument("--json", action="store_true", help="the recipe of an audio file as it is stored")
    parser.set_defaults(run=run_info)


def run_info(arguments, interrupts):
    """`mindmusicgen info`"""
    from ..sound.samples import READABLE

    if os.path.isfile(arguments.model) and arguments.model.lower().endswith(READABLE):
        _tell_piece(arguments.model, arguments.json)
        return
    if os.path.isfile(os.path.join(arguments.model, RUN)):
        _tell_run(arguments.model)
        return
    if arguments.artist is not None or arguments.genre is not None:
        _tell_names(arguments)
        return
    folder, family = _found(arguments)
    said = family.describe(folder, arguments.duration, arguments.batch, arguments.table, **flags.where(arguments))
    for line in said.split("\n"):
        tell(line)


def _tell_names(arguments):
    """The names that a model of songs knows; only its lists are downloaded."""
    from ..auto import part_of_family
    from ..checkpoint.source import resolve

    folder = resolve(arguments.model, **flags.source(arguments), weights=False)
    family = part_of_family(folder, "checkpoint.info")
    if not hasattr(family, "search"):
        raise InputError("--artist and --genre are for models that sing, such as openai/jukebox-1b-lyrics")
    for line in family.search(folder, artist=arguments.artist, genre=arguments.genre):
        tell(line)


def _found(arguments):
    """A model's folder, or its name on the hub if its sizes are known without a download; and its family's `info`."""
    from ..auto import part_of_family
    from ..checkpoint.source import resolve
    from ..families import KINDS, room

    name = arguments.model
    kind = next((kind for kind, one in KINDS.items() if one.published and name.startswith(one.published)), None)
    if kind is not None and not os.path.isdir(name):
        family = room(kind, "checkpoint.info")
        if family.is_published(name):
            with contextlib.suppress(InputError):
                name = resolve(name, **(flags.source(arguments) | {"local_files_only": True}))
            return name, family
    folder = resolve(name, **flags.source(arguments))
    return folder, part_of_family(folder, "checkpoint.info")


def _tell_piece(path, as_json):
    """How a piece was made, a line for each thing that its file says."""
    from ..audio import read_comment
    from ..sound.recipe import recipe_of
    from ..sound.sound_file import SoundFile

    comment = read_comment(path)
    if as_json:
        tell(comment or "{}")
        return
    file, recipe = SoundFile(path), recipe_of(comment)
    channels = {1: "mono", 2: "stereo"}.get(file.channels, f"{file.channels} channels")
    tell(f"{path}: {file.seconds:.2f} s, {channels}, {file.rate} Hz")
    if not recipe:
        tell(f"  {comment or 'it does not say how it was made'}")
    _tell_recipe(recipe)


def _tell_run(folder):
    """How a song's run was begun, and whether it has ended."""
    run = run_of(folder)
    recipe = run.get("recipe") if isinstance(run.get("recipe"), dict) else {}
    tell(f"{folder}: {'a run that has ended' if run.get('finished') else 'a run that --resume goes on with'}")
    _tell_recipe(recipe)


def _tell_recipe(recipe):
    """A line for each thing that a recipe says."""
    widest = max((len(SAID.get(name, name)) for name in recipe), default=0)
    for name in sorted(recipe, key=lambda name: name != "prompt"):
        tell(f"  {SAID.get(name, name).replace('_', ' '):{widest}}  {_said(recipe[name])}")


def _said(value):
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(str(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else value
