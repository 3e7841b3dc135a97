"""MusicLDM and AudioLDM: latent diffusion from text to music."""
