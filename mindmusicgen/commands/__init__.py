"""The commands of the command line: a file for one or a few, with its words (`add_...`) and what it does (`run_...`).

A command's file is loaded when the command is given; what needs MindSpore is imported inside its functions, so that
--help is instant.
"""

import importlib

FILES = {"encode": "codes", "decode": "codes", "convert": "models", "export": "models"}  # the others have their own


def add_words(name, parser):
    """Give a command's parser its words."""
    module = importlib.import_module(f".{FILES.get(name, name)}", __package__)
    getattr(module, f"add_{name}")(parser)
