"""Which share of the work is this process's, where several were started by msrun or by hand."""

import os

from ..errors import InputError


def is_scheduler():
    """Whether msrun started this process to introduce the others to each other, which need no introduction here."""
    return os.environ.get("MS_ROLE") == "MS_SCHED"


def rank_and_size():
    """(number of this process, number of processes): MindSpore's if its communication runs, else the environment's
    RANK_ID and RANK_SIZE, as msrun sets them; (0, 1) if there is one process.

    Raises:
        InputError: if the environment says something that cannot be.
    """
    from mindspore import communication

    if communication.GlobalComm.INITED:
        return communication.get_rank(), communication.get_group_size()
    names = ("RANK_ID", "RANK_SIZE" if "RANK_SIZE" in os.environ else "MS_WORKER_NUM")
    given = [os.environ.get(name) for name in names]
    if given[1] is None:  # a lone RANK_ID is some scheduler's business
        return 0, 1
    if not all(value is not None and value.isascii() and value.isdigit() for value in given):
        said = " and ".join(f"{name}={value}" for name, value in zip(names, given, strict=True))
        raise InputError(f"the environment says {said}; expected whole numbers: start all processes with msrun")
    rank, size = map(int, given)
    if rank >= size:
        raise InputError(f"the environment says RANK_ID={rank} of RANK_SIZE={size}; expected 0 to RANK_SIZE - 1")
    return rank, size
