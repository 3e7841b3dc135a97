"""The training loop: compiled steps, a schedule, checkpoints that survive anything, and curves to look at.

A batch is a function of the step's number alone, so a run that was interrupted and resumed equals one that was not.
"""

import json
import os
import time

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ..checkpoint.safetensors_file import NAMES as DTYPE_NAMES
from ..checkpoint.safetensors_file import open_safetensors, read_metadata, write_safetensors
from ..errors import InputError
from ..language import said
from ..ops.gradients import sum_of_squares_op
from ..runtime.callers import turn
from ..runtime.files import whole_file
from ..runtime.folder_lock import alone_in
from ..runtime.interrupt import interruptible
from ..runtime.progress import progress_bar, someone_watches
from ..runtime.telling import tell
from .adamw import AdamW, adamw

STATE, HISTORY, CURVES = "training_state.safetensors", "history.jsonl", "curves.png"


class WarmupCosine(nn.learning_rate_schedule.LearningRateSchedule):
    """Linear warm-up, then half a cosine down to a twentieth of the peak.

    Args:
        peak (float): the highest rate.
        warmup (int): steps to reach it.
        total (int): steps of the whole run.
    """

    def __init__(self, peak, warmup, total):
        super().__init__()
        self.peak, self.warmup, self.total = peak, float(max(warmup, 1)), float(max(total, warmup + 1))

    def construct(self, global_step):
        step = global_step.astype(ms.float32)
        rising = (step + 1.0) / self.warmup
        done = ops.clamp((step - self.warmup) / (self.total - self.warmup), 0.0, 1.0)
        falling = 0.05 + 0.95 * 0.5 * (1.0 + ops.cos(3.14159265 * done))
        return self.peak * ops.minimum(rising, falling)


class TrainingStep(nn.Cell):
    """Loss, gradients, clipping and update as one graph.

    Args:
        network (nn.Cell): returns a loss and a tuple of metrics.
        optimizer (nn.Optimizer): over the parameters to train.
        largest_norm (float): gradients are scaled down to this norm.
    """

    def __init__(self, network, optimizer, largest_norm):
        super().__init__()
        self.network, self.optimizer, self.largest_norm = network, optimizer, largest_norm
        self.scales = isinstance(optimizer, AdamW)  # the gradients, on its way
        self.squares = sum_of_squares_op() if self.scales else None
        self.gradients = ms.value_and_grad(network, None, optimizer.parameters, has_aux=True)
        self.run = ms.jit(self._run, fullgraph=True)

    def _run(self, *batch):
        (loss, metrics), gradients = self.gradients(*batch)
        squares = 0
        for gradient in gradients:
            squares = squares + (self.squares(gradient) if self.scales else ops.square(gradient)).sum()
        norm = ops.sqrt(squares)
        scale = ops.minimum(self.largest_norm / (norm + 1e-6), Tensor(1.0, ms.float32))
        if self.scales:
            return ops.depend(loss, self.optimizer(gradients, scale)), metrics, norm
        scaled = ()
        for gradient in gradients:
            scaled += (gradient * scale,)
        return ops.depend(loss, self.optimizer(scaled)), metrics, norm


class Trainer:
    """Trains a network whose call returns (loss, metrics).

    Args:
        network (nn.Cell): with `metric_names`, the loss first.
        folder (str): where checkpoints, history and curves go; what lies there is resumed.
        steps (int): length of the whole run.
        learning_rate (float): the peak of the schedule.
        warmup (int): steps to reach it.
        weight_decay (float): of AdamW, for matrices only.
        betas (tuple[float, float]): of AdamW.
        largest_norm (float): gradients are clipped to it.
        save_seconds (float): seconds between checkpoints.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(
        self,
        network,
        folder,
        steps,
        learning_rate=3e-4,
        warmup=100,
        weight_decay=0.01,
        betas=(0.9, 0.98),
        largest_norm=1.0,
        save_seconds=120.0,
    ):
        self.network, self.folder, self.steps, self.save_seconds = network, folder, steps, save_seconds
        network.set_train(True)
        parameters = list(network.trainable_params())
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        schedule = WarmupCosine(learning_rate, warmup, steps)
        groups = [group for group in groups if group["params"]]
        self.optimizer = adamw(groups, schedule, betas[0], betas[1])
        self.compiled = TrainingStep(network, self.optimizer, largest_norm)
        self.step, self.history = 0, []
        self.unfinished = []  # sums of the metrics since the last entry of the history, and how many steps they hold
        os.makedirs(folder, exist_ok=True)

    def state(self):
        """Everything that has to be kept: name -> Parameter."""
        kept = {f"network.{name}": parameter for name, parameter in self.network.parameters_and_names()}
        return kept | {f"optimizer.{p.name}": p for p in self.optimizer.get_parameters() if p.name not in _names(kept)}

    def save(self):
        """Write the checkpoint; the one before stays whole until the new one is complete."""
        entries = [
            (name, tuple(p.shape), p.asnumpy().dtype, lambda p=p: p.asnumpy()) for name, p in self.state().items()
        ]
        path = os.path.join(self.folder, STATE)
        facts = {"step": str(self.step), "steps": str(self.steps), "unfinished": json.dumps(self.unfinished)}
        try:
            # The history first: `resume` drops entries beyond the checkpoint's step, but could not make up lost ones.
            records = os.path.join(self.folder, HISTORY)
            with whole_file(records) as partial, open(partial, "w", encoding="utf-8") as file:
                file.writelines(json.dumps(record) + "\n" for record in self.history)
            write_safetensors(path, entries, facts)
        except OSError as error:
            raise InputError(
                f"the checkpoint {path} cannot be written ({error.strerror}); the one before is kept: make room and "
                "start the same command again"
            ) from error

    def resume(self):
        """Go on from the checkpoint in the folder, if there is one; returns the step reached.

        Raises:
            InputError: if the checkpoint is of another network or another length of training, or damaged.
        """
        path = os.path.join(self.folder, STATE)
        if not os.path.isfile(path):
            return 0
        tensors, state = open_safetensors(path), self.state()
        wrong = [name for name in state if name not in tensors or not _fits(tensors[name], state[name])]
        if wrong or len(tensors) != len(state):
            raise InputError(f"{path} is of another network ({(wrong or ['extra tensors'])[0]}); use another output")
        facts = read_metadata(path)
        try:
            steps, self.step = int(facts["steps"]), int(facts["step"])
            self.unfinished = json.loads(facts.get("unfinished", "[]"))
            with open(os.path.join(self.folder, HISTORY), encoding="utf-8") as file:
                self.history = [record for record in map(json.loads, file) if record["step"] <= self.step]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"{path} or the {HISTORY} beside it is damaged; train into another folder") from error
        if steps != self.steps:
            raise InputError(f"{path} is of a run of {steps} steps; give the same number, or another output")
        for name, parameter in state.items():
            parameter.set_data(Tensor(tensors[name].read()))
        return self.step

    def fit(self, batch, every=20, show=None):
        """Train up to the last step.

        Args:
            batch (callable): from the number of a step to its batch, a tuple of NumPy arrays of fixed shapes.
            every (int): steps between two entries of the history.
            show (bool): whether to show a progress bar; None shows it where a person watches.

        Raises:
            KeyboardInterrupt: after saving, if the user interrupts.
            InputError: if the loss stops being finite; the last checkpoint is kept.
        """
        names, saved = self.network.metric_names, time.monotonic()
        watched = someone_watches() if show is None else show
        bar = progress_bar(total=self.steps, initial=self.step, unit="step", disable=not watched)
        with alone_in(self.folder), interruptible() as interrupts, bar:
            try:
                while self.step < self.steps:
                    interrupts.check()
                    with turn(interrupts.check):
                        loss, metrics, norm = self.compiled.run(*(Tensor(array) for array in batch(self.step)))
                        values = np.array([float(v.asnumpy()) for v in (loss, *metrics, norm)])
                    if not np.isfinite(values).all():
                        raise InputError(
                            f"the loss is not finite at step {self.step}; lower the learning rate and start the same "
                            f"command again, which goes on from the checkpoint in {self.folder}"
                        )
                    self.step += 1
                    self._count(values)
                    bar.update()
                    if self.step % every == 0 or self.step == self.steps:
                        loss = self._record(names)[names[0]]
                        bar.set_postfix({names[0]: f"{loss:.3f}"})
                        if not watched:
                            tell(said(f"step {self.step} of {self.steps}: {names[0]} {loss:.4f}"))
                    if time.monotonic() - saved > self.save_seconds:
                        self.save()
                        saved = time.monotonic()
            except KeyboardInterrupt:
                self.save()
                raise
        self.save()
        self.network.set_train(False)
        plot_history(self.history, names, os.path.join(self.folder, CURVES))

    def _count(self, values):
        """Add a step's metrics to those that wait for the next entry of the history."""
        sums, counted = self.unfinished or ([0.0] * len(values), 0)
        self.unfinished = [(np.array(sums) + values).tolist(), counted + 1]

    def _record(self, names):
        """Add an entry to the history: the means since the last one."""
        sums, counted = self.unfinished
        means = (np.array(sums) / counted).tolist()
        record = {"step": self.step, **dict(zip((*names, "gradient norm"), means, strict=True))}
        self.history.append(record)
        self.unfinished = []
        return record


def plot_history(history, names, path):
    """Draw each metric over the steps into a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(names), 3), layout="constrained")
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        axes.plot([record["step"] for record in history], [record[name] for record in history], linewidth=1)
        axes.set(title=name, xlabel="step")
        axes.grid(alpha=0.3)
    with whole_file(path) as partial:
        figure.savefig(partial, format="png", dpi=90)


def _names(state):
    return {parameter.name for parameter in state.values()}


def _fits(tensor, parameter):
    """Whether a stored tensor has the shape and the dtype of a parameter."""
    return tensor.shape == tuple(parameter.shape) and tensor.dtype == DTYPE_NAMES[parameter.asnumpy().dtype.str]
