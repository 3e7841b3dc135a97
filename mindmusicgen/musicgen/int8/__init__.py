"""MusicGen with decoder weights of 8 or 4 bits."""
