"""Fine-tuning MusicGen on a folder of audio and captions."""
