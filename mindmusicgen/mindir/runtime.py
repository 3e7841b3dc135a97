"""Old name of `musicgen.mindir.runtime`."""

from ..musicgen.mindir.runtime import MindIRMusicgen

__all__ = ["MindIRMusicgen"]
