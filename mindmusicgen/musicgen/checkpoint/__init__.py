"""MusicGen's checkpoints: Hugging Face's, audiocraft's and this package's."""
