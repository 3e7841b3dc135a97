"""MusicLDM as MindIR files: written from a checkpoint, and making music without the code of the networks."""
