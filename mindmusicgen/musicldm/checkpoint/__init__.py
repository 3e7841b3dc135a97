"""MusicLDM's folders: names of tensors, opening, writing."""
