"""Arguments of calls, checked: each function returns what is wanted, or raises one sentence that says it."""

import math
import numbers

import mindspore as ms
import numpy as np
from mindspore import Tensor

from .errors import InputError, shown, whole_number


def belongs(owner, given, **named):
    """Refuse arguments that mean something only beside another one.

    Args:
        owner (str): the other one's name.
        given (bool): whether it is there.
        **named: the arguments.
    """
    for name, value in named.items():
        if value is not None and not given:
            raise InputError(f"{name} belongs to {owner}, which the call lacks; give both or none")


def as_array(name, value, dimensions):
    """The values of a Tensor, array or nested list.

    Args:
        name (str): what the caller calls it.
        value (Tensor | numpy.ndarray | list): the argument.
        dimensions (int | tuple[int]): how many axes it may have.

    Raises:
        InputError: if there is another number of axes, or something else than real numbers.
    """
    wanted = f"{' or '.join(str(n) for n in np.atleast_1d(dimensions))} axes of numbers"
    try:
        array = value.asnumpy() if isinstance(value, Tensor) else np.asarray(value)
    except (ValueError, TypeError) as error:
        raise InputError(f"{name} has rows of different lengths, or what is no array; expected {wanted}") from error
    real = np.issubdtype(array.dtype, np.number) and not np.iscomplexobj(array)
    if array.ndim not in np.atleast_1d(dimensions) or not (real or array.dtype == bool):
        raise InputError(f"{name} has shape {array.shape} and type {array.dtype}; expected {wanted}")
    return array


def as_whole(name, value, dimensions):
    """`as_array` of whole numbers: NaN or a fraction would become some code that nobody gave.

    Raises:
        InputError: for anything else; the range is the caller's to check.
    """
    array = as_array(name, value, dimensions)
    if array.dtype.kind == "f":
        odd = array[~(np.trunc(array) == array) | np.isinf(array)]
        if odd.size:
            raise InputError(f"{name} holds {odd.flat[0]:g}; expected whole numbers")
    return array


def as_mask(name, value, shape):
    """A mask of a known shape, int32: 1 where something counts; ones for None.

    Raises:
        InputError: for another shape, or other numbers than 0 and 1.
    """
    if value is None:
        return np.ones(shape, np.int32)
    mask = as_array(name, value, len(shape))
    if mask.shape != tuple(shape):
        raise InputError(f"{name} has shape {mask.shape}; expected {tuple(shape)}")
    if not ((mask == 0) | (mask == 1)).all():
        raise InputError(f"{name} holds {mask.min():g} to {mask.max():g}; expected 1 where something counts, else 0")
    return mask.astype(np.int32)


def exclusive(**given):
    """Refuse to be given more than one of several arguments, or none."""
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise InputError(f"{' and '.join(named)} were both given; give one of them")
    if not named:
        raise InputError(f"the call lacks its input; give {' or '.join(given)}")


def tokens(name, value, size):
    """Token ids [B, S] int32 below `size`."""
    ids = as_whole(name, value, 2)
    if ids.size == 0 or ids.min() < 0 or ids.max() >= size:
        raise InputError(f"{name} must hold token ids 0 to {size - 1}; expected what this model's tokenizer returns")
    return Tensor(ids.astype(np.int32))


def states(name, value, width):
    """Embeddings or hidden states [B, length, width]; a Tensor stays the same Tensor, so that gradients reach it."""
    found = value if isinstance(value, Tensor) else Tensor(np.asarray(value, np.float32))
    if found.ndim != 3 or found.shape[2] != width or found.shape[1] == 0:
        raise InputError(f"{name} has shape {tuple(found.shape)}; expected (batch, length, {width})")
    return found


def mask(name, value, shape):
    """A mask of a known shape: int32, 1 where something counts; ones for None."""
    return Tensor(as_mask(name, value, shape))


def head_mask(name, value, layers, heads):
    """Factors of the attention weights, [layers, heads] float32; None for none."""
    if value is None:
        return None
    factors = value if isinstance(value, Tensor) else Tensor(np.asarray(value, np.float32))
    if tuple(factors.shape) != (layers, heads):
        raise InputError(f"{name} has shape {tuple(factors.shape)}; expected {layers} layers by {heads} heads")
    return factors.astype(ms.float32)


def checked_codes(decoder, name, value):
    """Codes that can be decoded, [B, K, frames] int32.

    Args:
        decoder (object): a decoder's config; its num_codebooks and vocab_size are read.
        name (str): what the caller calls them.
        value (Tensor | numpy.ndarray | list): the codes.

    Raises:
        InputError: for another number of codebooks, none at all, or numbers that are no codes.
    """
    codes = as_whole(name, value, 3)
    size, books = decoder.vocab_size, decoder.num_codebooks
    if codes.shape[1] != books or not codes.size or codes.min() < 0 or codes.max() >= size:
        raise InputError(f"{name} has shape {codes.shape}; expected (batch, {books}, frames), each 0 to {size - 1}")
    return codes.astype(np.int32)


def number(name, value, low, high=math.inf, above=False):
    """A finite number of at least, or above, `low`, and at most `high`, as a float.

    Raises:
        InputError: naming the argument, for anything else.
    """
    wanted = f"{'above' if above else 'at least'} {low}" + (f" and at most {high}" if high < math.inf else "")
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise InputError(f"{name} is {shown(value)}; expected a finite number {wanted}")
    if value < low or value > high or (above and value == low):
        raise InputError(f"{name} is {shown(value)}; expected a number {wanted}")
    return float(value)


def resolve_seeds(seed, rows):
    """One seed per row: consecutive from `seed`, as given in a list, or for None a fresh one.

    A fresh one comes from NumPy's own generator, so that `set_seed`, mindspore's and transformers' too, repeats it.
    """
    if seed is None:
        seed = np.random.randint(2**31 - 1)
    if isinstance(seed, (list, tuple)):
        if len(seed) != rows:
            raise InputError(f"seed has {len(seed)} entries for {rows} pieces; give one number, or one for each piece")
        return tuple(whole_number("seed", value, 0) for value in seed)
    first = whole_number("seed", seed, 0)
    return tuple(first + i for i in range(rows))
