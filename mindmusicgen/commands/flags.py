"""The words that commands share, each with one meaning, and the parser that says which word was meant."""

import argparse
import difflib
import re
import sys

from .. import __version__
from ..language import said
from ..runtime.telling import printable

MODEL = "folder or hub id, such as facebook/musicgen-small (demo)"
AUDIO_FILE = "file ending in .wav, .flac, .ogg or .mp3"
SCHEDULERS = ("ddim", "pndm", "lms", "euler", "dpm")
NUMBER = re.compile(r"-[\d.]")


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is a short usage, a sentence, and the word that is nearest to a wrong one."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self.words, self.old_names = [], {}  # of options: they work, and help does not show them

    def parse_known_args(self, args=None, namespace=None):
        self.words = [self._newest(word) for word in (sys.argv[1:] if args is None else args)]
        return super().parse_known_args(self.words, namespace)

    def _newest(self, word):
        name, equals, value = word.partition("=")
        return self.old_names.get(name, name) + equals + value

    def error(self, message):
        """End with exit code 2. A wrong option is named first: what is missing may be what it was meant to give."""
        wrong = next(filter(None, map(self._wrong, self.words)), None)
        if wrong:
            message = f"{self.prog} has no option {wrong}{nearest(wrong, self._option_string_actions)}"
        self.print_usage(sys.stderr)
        asks = message.endswith(("?", "？"))
        more = " " + said(f"{self.prog} --help says more") if asks else said(f"; {self.prog} --help says more")
        self.exit(2, f"mindmusicgen: error: {printable(said(message))}{more}\n")

    def _wrong(self, word):
        """The option in a word, if there is none of that name."""
        known, name = self._option_string_actions, word.split("=")[0]
        if name.startswith("--"):
            return None if name == "--" or any(one.startswith(name) for one in known) else name
        if not name.startswith("-") or len(name) < 2 or NUMBER.match(name):
            return None
        return name if name[:2] not in known or "-" + name in known else None


def nearest(word, known):
    """What to say of a wrong word: the known one that is most like it, if any is."""
    if len(word) <= 2:
        return ""
    word = "-" + word if word.startswith("-") and not word.startswith("--") else word
    found = difflib.get_close_matches(word, known, 1, 0.5)
    return said(f"; did you mean {found[0]}?") if found else ""


def examples(*lines):
    """The end of a help text."""
    return "examples:\n" + "\n".join(f"  mindmusicgen {line}" for line in lines)


def add_common(parser):
    """Where a model comes from, and what every command takes."""
    group = parser.add_argument_group("where models come from")
    group.add_argument("--revision", help="branch, tag or commit on the hub")
    group.add_argument("--cache-dir", metavar="FOLDER", help="where downloads are kept")
    group.add_argument("--local-files-only", action="store_true", help="do not ask the hub")
    parser.add_argument("-v", "--verbose", action="store_true", help="show MindSpore's messages and tracebacks")
    parser.add_argument("-V", "--version", action="version", version=f"mindmusicgen {__version__}")


def add_model(parser, **options):
    """Which model."""
    parser.add_argument("-m", "--model", help=MODEL, **options)


def add_sampling(parser):
    """How codes are drawn."""
    group = parser.add_argument_group("how codes are chosen")
    group.add_argument(
        "--guidance-scale",
        type=guidance,
        metavar="SCALE",
        help="how closely to follow the prompt (the model's own, mostly 3), or START:END",
    )
    group.add_argument("--temperature", type=float, help="above 1 more daring, below 1 tamer")
    group.add_argument("--top-k", type=int, metavar="K", help="choose among the k most likely codes; 0 for all")
    group.add_argument(
        "--top-p", type=float, metavar="P", help="choose among the most likely codes that hold this probability"
    )
    group.add_argument("--greedy", action="store_true", help="always take the most likely code")


def guidance(text):
    """A guidance scale: one number, or two with a colon between them."""
    numbers = [float(part) for part in text.split(":")]
    if len(numbers) > 2:
        raise ValueError
    return numbers[0] if len(numbers) == 1 else tuple(numbers)


def add_negative(parser, name="negative_prompt"):
    """What to lead away from."""
    parser.add_argument("--negative", dest=name, metavar="TEXT", help="what the music should not be")
    parser.old_names["--negative-prompt"] = "--negative"


def add_batch_size(parser, default, help):
    """How many at a time."""
    parser.add_argument("--batch-size", dest="batch", type=int, default=default, metavar="N", help=help)
    parser.old_names["--batch"] = "--batch-size"


def add_computing(parser, dtype=True, quantization=False):
    """What computes, and how exactly."""
    group = parser.add_argument_group("what computes")
    group.add_argument(
        "--device",
        help="CPU, Ascend, or Ascend:1 for the second NPU (default: MINDMUSICGEN_DEVICE in the environment, or "
        "MindSpore's choice)",
    )
    group.add_argument(
        "--device-id", type=int, metavar="N", help="the NPU's number (default: the one that msrun gives, or 0)"
    )
    if dtype:
        group.add_argument(
            "--dtype",
            help="float32, float16, or bfloat16 on Ascend, and of a MusicLDM on CPUs with AMX (default: float16 on "
            "Ascend, float32 on a CPU)",
        )
    if quantization:
        group.add_argument(
            "--quantization",
            metavar="int8",
            help="int8: the decoder's weights in 8 bits, faster on a CPU; int4, of a MusicGen: in 4 bits, faster, "
            "less exact",
        )


def add_sound(parser):
    """How samples become a file."""
    parser.add_argument("--normalize", choices=("none", "peak", "loudness"), help="-1 dBFS or -14 LUFS (none)")
    parser.add_argument(
        "--bit-depth",
        type=int,
        metavar="BITS",
        help=".wav: 16 (default), 24 or 32 (float); .flac: 24 (default) or 16",
    )


def add_diffusion(group):
    """How noise becomes music."""
    group.add_argument("--steps", type=int, metavar="N", help="steps from noise to music (200); 1 to 1000")
    group.add_argument(
        "--scheduler",
        choices=SCHEDULERS,
        help="what leads the steps (the model's own, ddim); dpm needs few, 20 or so",
    )


def add_scorer(parser, **options):
    """Who judges."""
    parser.add_argument(
        "--scorer",
        metavar="MODEL",
        help="folder or hub id of a CLAP such as laion/clap-htsat-unfused, or of a MusicLDM, which has one inside",
        **options,
    )


def add_force(parser):
    parser.add_argument("--force", action="store_true", help="write over files that are there (else: out-2.wav)")


def source(arguments):
    """Where a model comes from if its name is no folder."""
    return {"revision": arguments.revision, **where(arguments)}


def where(arguments):
    """Where comes from what a folder only names."""
    return {"cache_dir": arguments.cache_dir, "local_files_only": arguments.local_files_only}


def use_device(arguments):
    """Compute where the command says."""
    from ..runtime import device

    device.use(arguments.device, arguments.device_id)


def opening(model):
    """Say at once, to whoever watches, what the next seconds are for."""
    from ..runtime.progress import announce

    announce(said(f"opening {model}"))
