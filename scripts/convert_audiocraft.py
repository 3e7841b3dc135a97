"""Turn audiocraft's own files (state_dict.bin, compression_state_dict.bin) into a Hugging Face MusicGen folder.

Neither audiocraft nor torch is needed. The text encoder is not in the files: it is looked for in the subfolder t5,
then on the hub under the name the files give, unless --text-encoder says where it is.
"""

import argparse
import sys

from mindmusicgen.errors import InputError
from mindmusicgen.musicgen.checkpoint.audiocraft import convert


def build_parser():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder or hub id with audiocraft's files")
    parser.add_argument("--output", required=True, help="folder to write")
    parser.add_argument("--text-encoder", help="T5 folder or hub id, with its tokenizer (default: the model's own)")
    parser.add_argument("--compression", help="EnCodec folder or hub id (default: the model's own)")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="of the weights (float32)")
    parser.add_argument("--revision", help="branch, tag or commit of the model on the hub")
    parser.add_argument("--cache-dir", help="where downloads are kept")
    parser.add_argument("--local-files-only", action="store_true", help="do not ask the hub")
    return parser


def main(argv=None):
    """Run the conversion; returns the exit code: 0 done, 2 bad input."""
    try:
        convert(**vars(build_parser().parse_args(argv)))
    except InputError as error:
        print(f"convert_audiocraft: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
