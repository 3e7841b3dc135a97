"""Bark's files: Hugging Face folders and suno's own."""
