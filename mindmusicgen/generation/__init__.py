"""What loops that generate have in common: compiled steps, sampling, and the codec piece by piece."""

FREE = -1  # in a pattern of codes: not known yet, the model chooses
