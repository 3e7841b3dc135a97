"""Convert a Hugging Face MusicGen folder to MindSpore's layout: the same as `mindmusicgen convert`."""

import sys

from mindmusicgen.cli import main

if __name__ == "__main__":
    sys.exit(main(["convert", *sys.argv[1:]]))
