"""Schedulers: how noise that was foretold step by step turns into latents, as tables of coefficients.

Every step of every scheduler here is linear in what it reads: the sample, what was kept of earlier steps, the predicted
noise, and fresh noise. So a scheduler is a matrix for each step, worked out beforehand on the host in double precision,
and one compiled step serves all of them. A scheduler writes its algorithm once, in terms of `Terms`, vectors of
coefficients in the place of arrays.

DDIM, arXiv:2010.02502; PNDM, arXiv:2202.09778; LMS and Euler after Karras et al., arXiv:2206.00364; DPM-Solver++,
arXiv:2211.01095. The numbers follow diffusers' classes of the same names, and so do the fields of their configs.
"""

import math
from dataclasses import dataclass

import numpy as np

from ..checkpoint.json_file import read_json
from ..errors import InputError, shown, whole_number
from ..habits import nearest

STATE = ("sample", "saved", "kept1", "kept2", "kept3", "sum")  # what one step hands to the next
READ = (*STATE, "noise", "fresh")  # what a step reads: also the predicted noise, and new random numbers
MOST_STEPS = 1000
SPACINGS = ("leading", "linspace", "trailing")
ELSEWHERE = {  # fields of any of these classes that may only be what they are in published models: nothing is clipped
    "trained_betas": None,
    "prediction_type": "epsilon",
    "thresholding": False,
    "rescale_betas_zero_snr": False,
    "clip_sample": False,
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "use_lu_lambdas": False,
    "use_flow_sigmas": False,
    "variance_type": None,
    "use_dynamic_shifting": False,
    "interpolation_type": "linear",
    "timestep_type": "discrete",
    "sigma_min": None,
    "sigma_max": None,
    "algorithm_type": "dpmsolver++",
    "lambda_min_clipped": -math.inf,
}
UNUSED = ("dynamic_thresholding_ratio", "clip_sample_range", "sample_max_value", "flow_shift", "time_shift_type")
UNUSED += ("skip_prk_steps", "solver_order", "solver_type", "lower_order_final", "euler_at_final")
UNUSED += ("final_sigmas_type", "set_alpha_to_one", "steps_offset", "timestep_spacing", "base_image_seq_len")
UNUSED += ("max_image_seq_len", "base_shift", "max_shift")


class SchedulerConfig(dict):
    """The fields of a scheduler, by name or as attributes."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"this scheduler has no field {name!r}") from None


@dataclass(frozen=True)
class Table:
    """The coefficients of a run.

    Attributes:
        timesteps (numpy.ndarray): what the UNet is told of time at each call, [calls] float64.
        scales (numpy.ndarray): by what the sample is multiplied before each call, [calls] float32.
        matrices (numpy.ndarray): from `READ` to the next `STATE`, [calls, 6, 8] float32.
        start (float): by what the first noise is multiplied.
        steps (int): that were asked for; PNDM makes more calls than steps.
        noisy (bool): whether fresh noise is read.
    """

    timesteps: np.ndarray
    scales: np.ndarray
    matrices: np.ndarray
    start: float
    steps: int
    noisy: bool = False


class Terms:
    """Coefficients of `READ`, one vector for each of `STATE`, of one step; what is not set stays as it was."""

    def __init__(self):
        self.now = {name: np.eye(len(READ))[i] for i, name in enumerate(READ)}
        self.next = {name: self.now[name] for name in STATE}

    def matrix(self):
        return np.stack([self.next[name] for name in STATE])

    def keep(self, values):
        """Let `values` be kept1, and what was kept move on."""
        self.next["kept1"], self.next["kept2"], self.next["kept3"] = values, self.now["kept1"], self.now["kept2"]


class Scheduler:
    """What the schedulers have in common: the fields of a scheduler_config.json, and the noise of 1000 times.

    Args:
        **fields: those of diffusers' class of the same name.

    Raises:
        InputError: for a field that this class does not have, or a value that is not built here.
    """

    own = {}  # fields beside the common ones, with their defaults
    order = 1

    def __init__(self, **fields):
        common = {"num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"}
        known = common | {"timestep_spacing": "leading", "steps_offset": 0} | self.own
        name = type(self).__name__
        for field, value in fields.items():
            if field in ELSEWHERE and value != ELSEWHERE[field]:
                raise InputError(f"{name} sets {field} to {shown(value)}; expected {ELSEWHERE[field]!r}")
            if field not in known and field not in ELSEWHERE and field not in UNUSED and field[:1] != "_":
                raise InputError(f"{name} does not know {shown(field)}{nearest(field, known)}")
        self.config = SchedulerConfig(known | {key: fields[key] for key in fields if key[:1] != "_"})  # others' too
        self._check()
        self.alphas = _alphas(self.config)  # [1000], the cumulative products

    def _check(self):
        c, name = self.config, type(self).__name__
        whole_number("num_train_timesteps", c.num_train_timesteps, 1)
        if c.num_train_timesteps > 100_000:
            raise InputError(f"{name} sets num_train_timesteps to {c.num_train_timesteps}; expected at most 100000")
        whole_number("steps_offset", c.steps_offset, 0)
        sound = all(type(one) in (int, float) for one in (c.beta_start, c.beta_end))
        if not sound or not 0 < c.beta_start <= c.beta_end < 1:
            raise InputError(f"{name} has betas from {shown(c.beta_start)} to {shown(c.beta_end)}; expected 0 to 1")
        words = {"beta_schedule": ("linear", "scaled_linear"), "timestep_spacing": SPACINGS}
        words |= {"solver_type": ("midpoint", "heun"), "final_sigmas_type": ("zero", "sigma_min")}
        for field, allowed in words.items():
            if field in c and c[field] not in allowed:
                raise InputError(f"{name} sets {field} to {shown(c[field])}; expected {' or '.join(allowed)}")

    @classmethod
    def from_config(cls, config, **changes):
        """A scheduler of this class with the fields of another, as far as both have them.

        Args:
            config (dict): of a scheduler, or of a scheduler_config.json.
            **changes: fields to change.

        Raises:
            InputError: for a field that no scheduler here has, or a value that is not built.
        """
        if not isinstance(config, dict):
            raise InputError(f"config is one of {shown(type(config).__name__)}; expected that of a scheduler")
        return cls(**{key: value for key, value in config.items() if key[:1] != "_"} | changes)

    def to_dict(self):
        """What a scheduler_config.json holds."""
        return {"_class_name": type(self).__name__, **self.config}

    def table(self, steps, eta=0.0):
        """The coefficients of a run.

        Args:
            steps (int): 1 to 1000; at most as many as times were trained.
            eta (float): DDIM's share of fresh noise, 0 to 1; other schedulers have none.

        Returns:
            Table

        Raises:
            InputError: for a number of steps that this scheduler cannot make.
        """
        most = min(MOST_STEPS, self.config.num_train_timesteps)
        if whole_number("num_inference_steps", steps, 1) > most:
            raise InputError(f"num_inference_steps is {steps}; expected 1 to {most}")
        with np.errstate(all="ignore"):  # what comes of it is looked at
            made = self._table(int(steps), float(eta))
        if not np.isfinite(made.matrices).all() or not np.isfinite(made.start):
            raise InputError(
                f"{type(self).__name__} has no finite coefficients for {steps} steps with these fields; expected those "
                "of a published scheduler_config.json"
            )
        return made

    def spaced(self, steps, whole=True):
        """The times of a run, the noisiest first, [steps] float64."""
        c = self.config
        total = c.num_train_timesteps
        if c.timestep_spacing == "linspace":
            times = np.linspace(0, total - 1, steps)[::-1]
            return np.round(times) if whole else times
        if c.timestep_spacing == "leading":
            times = np.arange(steps)[::-1] * (total // steps) + c.steps_offset
            return np.minimum(times, total - 1).astype(np.float64)
        return np.round(np.arange(steps) * (-total / steps) + total) - 1

    def sigmas(self, times):
        """The noise at some times relative to the signal, and 0 at the end, [times + 1] float64."""
        every = np.sqrt((1 - self.alphas) / self.alphas)
        found = np.interp(times, np.arange(len(every)), every)
        return np.append(found, 0).astype(np.float32).astype(np.float64)

    def alpha(self, time):
        """The share of the signal at a time; before the first, that of `set_alpha_to_one`."""
        if time >= 0:
            return self.alphas[min(int(time), len(self.alphas) - 1)]  # a steps_offset may lead beyond
        return 1.0 if self.config.set_alpha_to_one else self.alphas[0]


def _alphas(config):
    """Cumulative products of 1 - beta as torch computes them: betas in float32, products in double, kept in float32."""
    root = config.beta_schedule == "scaled_linear"
    ends = [math.sqrt(b) if root else b for b in (config.beta_start, config.beta_end)]
    betas = np.linspace(*ends, config.num_train_timesteps).astype(np.float32)
    betas = betas * betas if root else betas
    return np.cumprod((np.float32(1) - betas).astype(np.float64)).astype(np.float32).astype(np.float64)


def _made(times, scales, matrices, start, steps, noisy=False):
    times, matrices = np.asarray(times, np.float64), np.stack(matrices).astype(np.float32)
    return Table(times, np.broadcast_to(scales, times.shape).astype(np.float32), matrices, float(start), steps, noisy)


class DDIMScheduler(Scheduler):
    """DDIM: deterministic at eta 0, DDPM's amount of fresh noise at eta 1. MusicLDM's own scheduler."""

    own = {"set_alpha_to_one": True}

    def _table(self, steps, eta):
        times, ratio, matrices = self.spaced(steps), self.config.num_train_timesteps // steps, []
        for time in times:
            here, after = self.alpha(time), self.alpha(time - ratio)
            spread = eta * math.sqrt((1 - after) / (1 - here) * (1 - here / after))
            terms = Terms()
            noise = terms.now["noise"]
            clean = (terms.now["sample"] - math.sqrt(1 - here) * noise) / math.sqrt(here)
            back = math.sqrt(max(1 - after - spread**2, 0)) * noise
            terms.next["sample"] = math.sqrt(after) * clean + back + spread * terms.now["fresh"]
            matrices.append(terms.matrix())
        return _made(times, 1, matrices, 1, steps, eta > 0)


class PNDMScheduler(Scheduler):
    """PNDM: three Runge-Kutta steps of four calls, then a linear multistep; with skip_prk_steps the latter alone."""

    own = {"set_alpha_to_one": False, "skip_prk_steps": False}

    def _table(self, steps, eta):
        ratio = self.config.num_train_timesteps // steps
        times = self.spaced(steps)[::-1]
        if self.config.skip_prk_steps:
            first, later = times[:0], np.concatenate([times[:-1], times[-2:-1], times[-1:]])[::-1]
        elif steps < 4:
            raise InputError(f"num_inference_steps is {steps}; PNDMScheduler needs at least 4 unless skip_prk_steps")
        else:
            pairs = times[-4:].repeat(2) + np.tile([0, ratio // 2], 4)
            first, later = pairs[:-1].repeat(2)[1:-1][::-1], times[:-3][::-1]
        matrices = [self._runge_kutta(i, first, ratio) for i in range(len(first))]
        known = len(first) // 4
        for i, time in enumerate(later):
            matrices.append(self._multistep(i, time, ratio, known))
            known += not (i == 1 and not len(first))
        return _made(np.concatenate([first, later]), 1, matrices, 1, steps)

    def _runge_kutta(self, call, times, ratio):
        terms, part = Terms(), call % 4
        noise, sample = terms.now["noise"], terms.now["saved"]
        if part == 0:
            sample = terms.next["saved"] = terms.now["sample"]
            terms.keep(noise)
            terms.next["sum"] = noise / 6
        elif part < 3:
            terms.next["sum"] = terms.now["sum"] + noise / 3
        else:
            noise = terms.now["sum"] + noise / 6
            terms.next["sum"] = 0 * noise
        end = times[call] - (0 if call % 2 else ratio // 2)
        terms.next["sample"] = self._moved(sample, times[call - part], end, noise)
        return terms.matrix()

    def _multistep(self, call, time, ratio, known):
        terms, end = Terms(), time - ratio
        noise, sample = terms.now["noise"], terms.now["sample"]
        kept = [noise, *(terms.now[f"kept{i}"] for i in (1, 2, 3))]
        again = known == 1 and call == 1  # the second look at the first time, from where it began
        if again:
            noise, sample, time, end = (noise + kept[1]) / 2, terms.now["saved"], time + ratio, time
        else:
            terms.keep(noise)
            weights = ((1,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
            chosen = weights[min(known, 3)]
            noise = sum(weight * one for weight, one in zip(chosen, kept, strict=False))
        if known == 0:
            terms.next["saved"] = sample
        terms.next["sample"] = self._moved(sample, time, end, noise)
        return terms.matrix()

    def _moved(self, sample, time, end, noise):
        """The sample at another time, along the noise."""
        here, after = self.alpha(time), self.alpha(end)
        below = here * math.sqrt(1 - after) + math.sqrt(here * (1 - here) * after)
        return math.sqrt(after / here) * sample - (after - here) / below * noise


class _Sigmas(Scheduler):
    """Schedulers whose sample has the noise on top of the signal."""

    def _start(self, sigmas):
        most = sigmas.max()
        return most if self.config.timestep_spacing in ("linspace", "trailing") else math.sqrt(most**2 + 1)


class EulerDiscreteScheduler(_Sigmas):
    """Euler's method: straight along the predicted noise, from one amount of noise to the next."""

    own = {"timestep_spacing": "linspace", "final_sigmas_type": "zero"}

    def _table(self, steps, eta):
        times = self.spaced(steps, whole=False)
        sigmas, matrices = self.sigmas(times), []
        if self.config.final_sigmas_type == "sigma_min":
            sigmas[-1] = math.sqrt((1 - self.alphas[0]) / self.alphas[0])
        for i in range(steps):
            terms = Terms()
            terms.next["sample"] = terms.now["sample"] + (sigmas[i + 1] - sigmas[i]) * terms.now["noise"]
            matrices.append(terms.matrix())
        return _made(times, 1 / np.sqrt(sigmas[:-1] ** 2 + 1), matrices, self._start(sigmas), steps)


class LMSDiscreteScheduler(_Sigmas):
    """A linear multistep of order 4: the noise of the last four calls as a polynomial, integrated."""

    own = {"timestep_spacing": "linspace"}
    depth = 4

    def _table(self, steps, eta):
        times = self.spaced(steps, whole=False)
        sigmas, matrices = self.sigmas(times), []
        for i in range(steps):
            terms = Terms()
            kept = [terms.now["noise"], *(terms.now[f"kept{n}"] for n in (1, 2, 3))]
            order = min(i + 1, self.depth)
            weights = [_integral(sigmas, order, i, n) for n in range(order)]
            moved = sum(weight * one for weight, one in zip(weights, kept, strict=False))
            terms.next["sample"] = terms.now["sample"] + moved
            terms.keep(terms.now["noise"])
            matrices.append(terms.matrix())
        return _made(times, 1 / np.sqrt(sigmas[:-1] ** 2 + 1), matrices, self._start(sigmas), steps)


def _integral(sigmas, order, i, n):
    """That of Lagrange's polynomial of point i - n among the last `order`, from sigma i to the next; exact."""
    points = [sigmas[i - k] for k in range(order) if k != n]
    polynomial = np.poly1d(points, r=True) / np.prod([sigmas[i - n] - point for point in points])
    whole = np.polyint(polynomial)
    return whole(sigmas[i + 1]) - whole(sigmas[i])


class DPMSolverMultistepScheduler(Scheduler):
    """DPM-Solver++ of order 1 or 2: few steps, 20 or so."""

    own = {
        "timestep_spacing": "linspace",
        "solver_order": 2,
        "solver_type": "midpoint",
        "lower_order_final": True,
        "euler_at_final": False,
        "final_sigmas_type": "zero",
    }

    def _check(self):
        super()._check()
        if self.config.solver_order not in (1, 2):
            raise InputError(f"solver_order is {shown(self.config.solver_order)}; expected 1 or 2")

    def spaced(self, steps, whole=True):
        """The times of a run: one more is spaced than is used, but for "trailing"."""
        if self.config.timestep_spacing == "trailing":
            return super().spaced(steps)
        return super().spaced(steps + 1)[:-1]

    def _table(self, steps, eta):
        c, times = self.config, self.spaced(steps)
        sigmas, matrices = self.sigmas(times), []
        if c.final_sigmas_type == "sigma_min":
            sigmas[-1] = math.sqrt((1 - self.alphas[0]) / self.alphas[0])
        signal = 1 / np.sqrt(sigmas**2 + 1)
        with np.errstate(divide="ignore"):
            balance = -np.log(sigmas)  # log of signal over noise
        early = c.euler_at_final or (c.lower_order_final and steps < 15) or c.final_sigmas_type == "zero"
        for i in range(steps):
            terms = Terms()
            noise = sigmas[i] * signal[i]
            clean = (terms.now["sample"] - noise * terms.now["noise"]) / signal[i]
            gap = balance[i + 1] - balance[i]
            grown = -signal[i + 1] * math.expm1(-gap)
            moved = sigmas[i + 1] * signal[i + 1] / noise * terms.now["sample"] + grown * clean
            if c.solver_order == 2 and i > 0 and not (early and i == steps - 1):
                slope = (clean - terms.now["kept1"]) * gap / (balance[i] - balance[i - 1])
                half = grown / 2
                if c.solver_type == "heun":
                    half = signal[i + 1] * (math.expm1(-gap) / gap + 1)
                moved = moved + half * slope
            terms.next["sample"] = moved
            terms.keep(clean)
            matrices.append(terms.matrix())
        return _made(times, 1, matrices, 1, steps)


SCHEDULERS = {
    kind.__name__: kind
    for kind in (
        DDIMScheduler,
        PNDMScheduler,
        LMSDiscreteScheduler,
        EulerDiscreteScheduler,
        DPMSolverMultistepScheduler,
    )
}
SHORT = {"ddim": DDIMScheduler, "pndm": PNDMScheduler, "lms": LMSDiscreteScheduler, "euler": EulerDiscreteScheduler}
SHORT |= {"dpm": DPMSolverMultistepScheduler}  # words of the command line


def open_scheduler(path):
    """The scheduler of a file; see `read_scheduler`."""
    return read_scheduler(read_json(path, infinite=True), path)


def read_scheduler(values, path):
    """The scheduler that a scheduler_config.json describes.

    Args:
        values (dict): of the file.
        path (str): the file, for errors.

    Raises:
        InputError: naming the field, for a scheduler or a value that is not built here.
    """
    name = values.get("_class_name")
    if not isinstance(name, str) or name not in SCHEDULERS:
        raise InputError(f"{path} describes {shown(name)}; expected one of {', '.join(SCHEDULERS)}")
    return SCHEDULERS[name].from_config(values)


def advance(table, call, state, noise, fresh=None):
    """One step on the host: what the compiled step does, for tests and teaching.

    Args:
        table (Table): of a run.
        call (int): which of its calls.
        state (numpy.ndarray): [6, ...]; the sample first.
        noise (numpy.ndarray): what was predicted, [...].
        fresh (numpy.ndarray): random numbers, or None for zeros.

    Returns:
        numpy.ndarray: the next state.
    """
    return moved(table.matrices[call], state, noise, np.zeros_like(noise) if fresh is None else fresh)


def moved(matrix, state, noise, fresh):
    """The next state: a matrix of a `Table` times what `READ` names."""
    return np.tensordot(matrix, np.stack([*state, noise, fresh]), 1)
