"""The one exception for bad input: a sentence that names the input, what is wrong and what would be right."""


class InputError(ValueError):
    """Something the user gave cannot be used. The CLI prints its text and exits with code 2."""


def clip(text, most=160):
    """Text from a file, made fit for one line of an error."""
    return str(text)[:most].encode("unicode_escape").decode()
