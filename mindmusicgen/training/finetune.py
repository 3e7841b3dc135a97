"""Old name of `musicgen.training.finetune`."""

from ..musicgen.training.finetune import finetune

__all__ = ["finetune"]
