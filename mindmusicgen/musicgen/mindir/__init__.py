"""MusicGen as MindIR files, and generation from these files alone."""
