"""MusicGen that follows a tune."""
