"""What `mindmusicgen doctor` asks of a tiny Jukebox: each kind of attention, the VQ-VAE, and two priors' codes."""
