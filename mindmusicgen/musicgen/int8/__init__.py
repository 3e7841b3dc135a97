"""MusicGen with decoder weights of 8 bits."""
