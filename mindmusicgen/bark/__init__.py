"""Bark: text to speech, songs and sounds. The family's networks, stages, inputs and files; see `model`."""
