"""Recordings as arrays and as files, and the recipe that a file of music carries."""
