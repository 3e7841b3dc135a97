"""MusicGen's networks called as transformers' modules are, in a composite or alone."""
