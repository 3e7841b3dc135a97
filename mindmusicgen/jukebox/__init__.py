"""Jukebox: artist, genre and lyrics to singing; three priors, each finer than the one before, and a VQ-VAE."""
