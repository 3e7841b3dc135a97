"""Old name of `musicgen.checkpoint.convert`."""

from ..musicgen.checkpoint.convert import convert

__all__ = ["convert"]
