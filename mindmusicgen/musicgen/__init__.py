"""MusicGen (Copet et al. 2023, arXiv:2306.05284): text, audio or a melody to music."""
