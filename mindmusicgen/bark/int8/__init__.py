"""Bark with weights of 8 bits, for a CPU."""
