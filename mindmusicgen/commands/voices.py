"""`mindmusicgen voices`: the names of the voices that a model of speech has."""

from ..errors import InputError
from ..runtime.telling import quoted, tell
from . import flags


def add_voices(parser):
    """The words of `voices`."""
    parser.usage = "mindmusicgen voices MODEL [options]"
    parser.epilog = flags.examples("voices suno/bark-small")
    parser.add_argument("model", metavar="MODEL", help="folder or hub id of a Bark")
    parser.set_defaults(run=run_voices)


def run_voices(arguments, interrupts):
    """`mindmusicgen voices`"""
    from ..auto import AutoProcessor

    processor = AutoProcessor.from_pretrained(arguments.model, **flags.source(arguments))
    names = getattr(processor, "available_voice_presets", None)
    if names is None:
        raise InputError(
            f"{quoted(arguments.model)} makes music; voices are of models that speak, such as suno/bark-small"
        )
    if not names:
        raise InputError(f"{quoted(arguments.model)} has no voices by name; give --voice an .npz file")
    for name in names:
        tell(name)
