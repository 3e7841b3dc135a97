"""The command line: which commands there are, and how one runs.

Exit codes: 0 done, 1 some of many pieces failed or doctor found something wrong, 2 bad input (one sentence on standard
error), 130 interrupted. The words of each command, and what it does, are in `commands`.
"""

import contextlib
import os
import secrets
import shutil
import sys
import tempfile
import warnings

from . import __version__, commands
from .commands.flags import Parser, add_common, nearest
from .errors import InputError
from .language import said
from .runtime.interrupt import interruptible
from .runtime.telling import patient_streams, quoted, tell

FAILED_GRAPHS = "MS_OM_PATH"  # where MindSpore describes graphs that it could not compile
COMMANDS = {  # by what they are for: the name of each, and what it does
    "make music": {
        "generate": "turn prompts into music",
        "page": "show a page in the browser that makes music, to one or to many",
        "batch": "turn a file of prompts into a folder of music, on one device or many",
        "prompts": "print words and prompts that the demo model understands",
        "rank": "say which of several recordings fits a text best",
        "play": "play a piece of music",
        "voices": "print the names of the voices that a model of speech has",
    },
    "look inside": {
        "info": "say how a piece of music was made, or what a checkpoint is and needs",
        "encode": "turn audio into codes",
        "decode": "turn codes into audio",
    },
    "make models": {
        "train": "fine-tune a checkpoint on a folder of audio and captions",
        "convert": "turn a checkpoint into a folder that opens faster",
        "export": "write a model as MindIR files, which need none of the networks' code",
    },
    "check": {"doctor": "check what is installed, what it computes and how fast, and write a report"},
}
NAMES = {name: help for group in COMMANDS.values() for name, help in group.items()}
EXAMPLES = """examples:
  mindmusicgen generate "upbeat 80s pop with drums and synth bass" -d 20 -o pop.flac
  mindmusicgen info pop.flac
  mindmusicgen generate --like pop.flac -s 8
"""


def build_parser(only=None):
    """The argument parser of all commands, or of the one whose name is given."""
    parser = Parser(prog="mindmusicgen", usage="mindmusicgen COMMAND [options]", description="MusicGen on MindSpore.")
    parser.add_argument("-V", "--version", action="version", version=f"mindmusicgen {__version__}")
    parser.format_help = _help
    subparsers = parser.add_subparsers(dest="command", required=True, prog="mindmusicgen", parser_class=Parser)
    for name, help in NAMES.items() if only is None else ((only, NAMES[only]),):
        command = subparsers.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
        commands.add_words(name, command)
        add_common(command)
        command.set_defaults(parser=command)
    return parser


def _help():
    """The help of all commands, in groups."""
    lines = ["usage: mindmusicgen COMMAND [options]", "", "Text to music: MusicGen on MindSpore.", ""]
    for group, entries in COMMANDS.items():
        lines += [f"{group}:", *(f"  {name:10}{help}" for name, help in entries.items()), ""]
    lines += [EXAMPLES, "mindmusicgen COMMAND --help says more; mindmusicgen --version says which version this is"]
    return "\n".join(lines) + "\n"


def parse(words=None):
    """The arguments of a command line; ends with exit code 2, a short usage and a hint for words that are wrong.

    Args:
        words (list[str]): the command and what follows; of this process if None.

    Returns:
        argparse.Namespace
    """
    words = sys.argv[1:] if words is None else list(words)
    parser = build_parser(words[0] if words and words[0] in NAMES else None)
    _complete(parser)
    if not words:
        tell(_help().rstrip())
        parser.exit(0)
    if not words[0].startswith("-") and words[0] not in NAMES:
        meant = said(f"; did you mean generate {quoted(words[0])}?")
        near = meant if " " in words[0] else nearest(words[0], NAMES)
        parser.error(f"there is no command {quoted(words[0])}{near}")
    arguments, unknown = parser.parse_known_args(words)
    if unknown:
        arguments.parser.error(f"{unknown[0]!r} is one word too many")
    return arguments


def _complete(parser):
    """Answer a shell that asks how a line might go on, if the extra `completion` is installed."""
    if "_ARGCOMPLETE" in os.environ:
        with contextlib.suppress(ImportError):
            import argcomplete

            argcomplete.autocomplete(parser)


@contextlib.contextmanager
def quiet(verbose):
    """Keep MindSpore's messages, and the files it writes when a compilation fails, from the user."""
    if verbose:
        yield
        return
    os.environ.setdefault("GLOG_v", "4")  # MindSpore reads it when it is imported
    os.environ.setdefault("USE_TORCH", "0")  # transformers would import an installed torch, for two seconds and 0.3 GB
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    with warnings.catch_warnings(), _failed_graphs_aside():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", module=r"mindmusicgen\b")
        warnings.showwarning = lambda message, *_, **__: tell(
            f"mindmusicgen: warning: {said(str(message))}", error=True
        )
        yield


def _tell_warning(message, *_, **__):
    tell(f"mindmusicgen: warning: {said(str(message))}", error=True)


@contextlib.contextmanager
def _failed_graphs_aside():
    """Context in which MindSpore describes failed compilations in a place of their own, not in rank_0 of the working
    folder, where other programs may have theirs."""
    if FAILED_GRAPHS in os.environ:  # the user wants them
        yield
        return
    aside = os.environ[FAILED_GRAPHS] = os.path.join(tempfile.gettempdir(), f"mindmusicgen-{secrets.token_hex(8)}")
    try:
        yield
    finally:
        del os.environ[FAILED_GRAPHS]
        shutil.rmtree(aside, ignore_errors=True)


def main(argv=None):
    """Run the command line; returns the exit code."""
    with patient_streams():
        return _run(parse(argv))


def _run(arguments):
    """Do what a command says, and put its failures into one sentence."""
    code = None
    try:
        _check_working_folder()
        with quiet(arguments.verbose), interruptible() as interrupts:
            code = arguments.run(arguments, interrupts) or 0
        return code
    except KeyboardInterrupt as interrupt:
        if code is not None:  # it came when all was done
            return code
        kept = interrupt.args[0] if interrupt.args else getattr(arguments, "interrupted", "nothing was written")
        tell(f"mindmusicgen: {said(f'interrupted, {kept}')}", error=True)
        return 130
    except Exception as error:
        reason = reason_of(error)
        if arguments.verbose or reason is None:
            raise
        tell(f"mindmusicgen: error: {reason}", error=True)
        return 2


def _check_working_folder():
    try:
        os.getcwd()  # MindSpore cannot be imported without
    except OSError as error:
        raise InputError("the working folder does not exist any more; change to one that does") from error


def reason_of(error):
    """What the user can do something about, in a sentence; None for an error that is a fault of this package."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:  # a disk or folder that went away meanwhile
        return f"{error.strerror}{f': {quoted(str(error.filename))}' if error.filename else ''}"
    from .runtime.device import is_memory_error

    if is_memory_error(error):
        advice = "mindmusicgen info MODEL says what a model needs; take a smaller one, less at a time, or shorter audio"
        return said(f"out of memory; {advice}")
    return None
