"""Checkpoints of Jukebox: Hugging Face folders and the files of the original program."""
