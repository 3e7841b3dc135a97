"""The commands of the command line: a file for one or a few, with its words (`add_...`) and what it does (`run_...`).

What needs MindSpore is imported inside the functions, so that --help is instant.
"""

from .batch import add_batch, run_batch
from .codes import add_decode, add_encode, run_decode, run_encode
from .doctor import add_doctor, run_doctor
from .generate import add_generate, run_generate
from .info import add_info, run_info
from .models import add_convert, add_export, run_convert, run_export
from .outputs import output_paths
from .play import add_play, run_play
from .prompts import add_prompts, run_prompts
from .train import add_train, run_train

__all__ = [
    "add_batch",
    "add_convert",
    "add_decode",
    "add_doctor",
    "add_encode",
    "add_export",
    "add_generate",
    "add_info",
    "add_play",
    "add_prompts",
    "add_train",
    "output_paths",
    "run_batch",
    "run_convert",
    "run_decode",
    "run_doctor",
    "run_encode",
    "run_export",
    "run_generate",
    "run_info",
    "run_play",
    "run_prompts",
    "run_train",
]
