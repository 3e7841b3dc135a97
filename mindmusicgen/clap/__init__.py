"""CLAP: vectors of texts and of recordings that can be compared, for MusicLDM's prompts and to rank anyone's pieces."""
