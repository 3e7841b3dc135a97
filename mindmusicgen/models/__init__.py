"""The networks, one file each."""

from ..runtime.interrupt import blocked

with blocked():  # MindSpore's threads must not receive Ctrl-C, whichever of our modules is imported first
    import mindspore  # noqa: F401
