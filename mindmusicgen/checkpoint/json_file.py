"""JSON that comes from elsewhere: read strictly, at once or not at all, with one sentence for whatever is wrong."""

import json
import os

from ..errors import InputError

MAX_BYTES = 10_000_000  # a hundred times what the largest published model has; Python takes 20 times as much memory


def parse_json(data, source, infinite=False):
    """The object in a JSON text.

    Args:
        data (bytes): UTF-8. Names that occur twice are refused, as are NaN and Infinity: other readers differ in them.
        source (str): what to call the text in errors.
        infinite (bool): take Infinity, which diffusers writes of schedulers.

    Returns:
        dict

    Raises:
        InputError: if it is no such text.
    """
    try:
        value = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_infinity if infinite else _refuse)
        json.dumps(value, ensure_ascii=False).encode()  # lone surrogates can be neither printed nor written
    except (ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{source} is not valid JSON; download it again") from error
    if not isinstance(value, dict):
        raise InputError(f"{source} does not hold a JSON object; download it again")
    return value


def read_json(path, infinite=False):
    """The object in a JSON file; arguments as in `parse_json`.

    Raises:
        InputError: if the file is missing, larger than `MAX_BYTES`, or not a JSON object; see `parse_json`.
    """
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size > MAX_BYTES:
                raise InputError(f"{path} is larger than {MAX_BYTES} bytes, which no model's is; download it again")
            data = file.read()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); expected a model folder with that file") from error
    return parse_json(data, path, infinite)


def _unique(pairs):
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a name occurs twice")
    return made


def _infinity(constant):
    return _refuse(constant) if constant == "NaN" else float(constant)


def _refuse(constant):
    raise ValueError(f"{constant} is not JSON")
