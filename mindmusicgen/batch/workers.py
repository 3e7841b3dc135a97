"""Many processes on one machine or many, through Ray: each holds the model and is given batches.

Clips come back to the process that was started by the user, which alone writes files. So the folder need not be shared,
and a batch whose worker died can be given to another: nothing is lost, and nothing is there twice.
"""

import os
from collections import Counter, deque

from ..auto import part_of_family
from ..checkpoint.source import resolve
from ..errors import InputError
from ..runtime import device as devices
from .run import attempts, deliver, reason_of

TRIES = 3  # workers that may die over a batch, then over each of its pieces, before it counts as failed


class Worker:
    """What runs in a worker's process.

    Args:
        maker (dict): arguments of a family's `Maker`.
        device (str): CPU, Ascend or None for MindSpore's choice; of several NPUs Ray shows a worker one.
    """

    def __init__(self, maker, device=None):
        devices.use(device)
        self.maker = part_of_family(resolve(maker["folder"]), "batching").Maker(**maker)

    def make(self, batch):
        """The list of what `attempts` yields for a batch, and the clips' sampling rate."""
        return list(attempts(self.maker.clips, batch)), self.maker.sampling_rate


class Pool:
    """Context with a Ray cluster: the one at an address, or one that is started on this machine.

    Args:
        count (int): workers.
        address (str): of the cluster's head; None for RAY_ADDRESS, else a cluster of this machine.
        maker (dict): arguments of a family's `Maker`; the model's folder must exist on every machine.
        device (str): as in `Worker`.

    Raises:
        InputError: if Ray is not installed, or the cluster cannot be reached or is too small.
    """

    def __init__(self, count, address, maker, device=None):
        try:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            import ray
        except ImportError as error:
            raise InputError("--workers needs Ray, which is not installed; run: pip install 'ray>=2.9'") from error
        self.ray, self.count, self.address, self.maker, self.device = ray, count, address, maker, device

    def __enter__(self):
        try:
            self.ray.init(address=self.address, log_to_driver=False, include_dashboard=False, logging_level="error")
        except Exception as error:  # ConnectionError, ValueError, RuntimeError
            where = f"the Ray cluster at {self.address!r}" if self.address else "a Ray cluster on this machine"
            raise InputError(f"{where} cannot be used ({reason_of(error)}); check --ray-address") from error
        has = self.ray.cluster_resources()
        npu = self.device != "CPU" and has.get("NPU", 0) > 0
        name = "NPU" if npu else "CPU"
        if has.get(name, 0) < self.count:
            self.ray.shutdown()
            raise InputError(f"the Ray cluster has {has.get(name, 0):g} {name} for {self.count} workers; ask for fewer")
        self.needs = {"num_cpus": 1 if npu else int(has["CPU"] // self.count), "resources": {"NPU": 1} if npu else None}
        return self

    def __exit__(self, *error):
        self.ray.shutdown()

    def start(self):
        """One more worker."""
        return self.ray.remote(Worker).options(**self.needs).remote(self.maker, self.device)

    def make_all(self, batches, writer, interrupts):
        """Make pieces; the arguments are those of `run.make_all`."""
        waiting, died, running = deque(batches), Counter(), {}

        def give(worker):
            if waiting:  # a worker that gets nothing is dropped, and makes room
                batch = waiting.popleft()
                running[worker.make.remote(batch)] = worker, batch

        for _ in range(min(self.count, len(waiting))):
            give(self.start())
        while running:
            ready, _ = self.ray.wait(list(running), timeout=0.5)
            interrupts.check()
            for result in ready:
                worker, batch = running.pop(result)
                try:
                    made, writer.sampling_rate = self.ray.get(result)
                except self.ray.exceptions.RayError as error:
                    worker = self.start()
                    self.again(batch, error, died, waiting, writer)
                else:
                    for outcome in made:
                        deliver(writer, *outcome)
                give(worker)

    def again(self, batch, error, died, waiting, writer):
        """A worker died over a batch: let others try, in the end each piece alone."""
        if getattr(error, "actor_init_failed", False):
            raise InputError(f"a worker cannot start: {reason_of(error.__cause__ or error)[:500]}") from error
        died.update(piece.path for piece in batch)
        if died[batch[0].path] < TRIES:
            waiting.append(batch)
        elif len(batch) > 1:
            for piece in batch:
                died[piece.path] = 0
                waiting.append([piece])
        else:
            writer.fail(batch[0], f"{TRIES} workers died over it, the last with {reason_of(error)}")
