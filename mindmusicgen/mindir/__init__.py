"""Old name of `musicgen.mindir`."""
