"""Old name of `musicgen.checkpoint.audiocraft`."""

from ..musicgen.checkpoint.audiocraft import convert, open_checkpoint, tokenizer_folder

__all__ = ["convert", "open_checkpoint", "tokenizer_folder"]
