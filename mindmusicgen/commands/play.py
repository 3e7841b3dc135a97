"""`mindmusicgen play` and `--play`: a file through the player that this machine has."""

import os
import shutil
import subprocess

from ..errors import InputError
from ..runtime.telling import quoted
from . import flags

PLAYERS = (  # the first that is there and works; those of sound servers know where the sound is to go
    ("pw-play",),
    ("ffplay", "-nodisp", "-autoexit", "-loglevel", "error"),
    ("mpv", "--no-video", "--really-quiet"),
    ("afplay",),
    ("paplay",),
    ("play", "-q"),
    ("aplay", "-q"),
)
ONLY_WAV = ("aplay",)


def add_play(parser):
    parser.usage = "mindmusicgen play FILE [FILE ...]"
    parser.epilog = flags.examples("play out.wav")
    parser.add_argument("files", nargs="+", metavar="FILE", help="audio file")
    parser.set_defaults(run=run_play, interrupted="stopped")


def run_play(arguments, interrupts):
    """`mindmusicgen play`"""
    for path in arguments.files:
        if not os.path.isfile(path):
            raise InputError(f"audio {quoted(path)} cannot be played, there is no such file; check the name")
        check_player(path)
    for path in arguments.files:
        interrupts.check()
        play(path, interrupts)


def players(path):
    """The players of this machine for a kind of file."""
    wav = path.lower().endswith(".wav")
    return [player for player in PLAYERS if (wav or player[0] not in ONLY_WAV) and shutil.which(player[0])]


def check_player(path):
    """Refuse to play where nothing can."""
    if not players(path):
        names = ", ".join(one[0] for one in PLAYERS)
        raise InputError(
            f"there is no player for {quoted(path)} here; install one of {names}, or open the file yourself"
        )


def play(path, interrupts):
    """Play a file to its end, or until Ctrl-C.

    Raises:
        InputError: if no player could.
    """
    check_player(path)
    for player in players(path):
        process = subprocess.Popen(
            [*player, os.path.abspath(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            while True:
                try:
                    code = process.wait(0.1)
                    break
                except subprocess.TimeoutExpired:
                    interrupts.check()
        finally:
            if process.poll() is None:
                process.terminate()
        if code == 0:
            return
    raise InputError(
        f"{quoted(path)} could not be played: {players(path)[-1][0]} found no sound device; open it yourself"
    )
