"""Bark as MindIR files, and speech from these files alone."""
