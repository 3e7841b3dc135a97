"""Old name of `musicgen.delay_pattern`."""

from ..musicgen.delay_pattern import FREE, build_pattern, codebook_delays, columns_for, is_delayed, undelay

__all__ = ["FREE", "build_pattern", "codebook_delays", "columns_for", "is_delayed", "undelay"]
