"""What calls return: named, in order, and without what is None."""

from dataclasses import fields


class Output:
    """Base of the outputs: `out.logits`, `out["logits"]`, `out[0]`, `out[:2]`, `dict(out)`."""

    other_names = ()  # of attributes that repeat a field

    @property
    def cache(self):
        """transformers 5's name for `past_key_values`."""
        return getattr(self, "past_key_values", None)

    def keys(self):
        """Names of the fields that are set, in order."""
        return [field.name for field in fields(self) if getattr(self, field.name) is not None]

    def to_tuple(self):
        """The fields that are set."""
        return tuple(getattr(self, name) for name in self.keys())

    def values(self):
        """The fields that are set, as `to_tuple` under the name that dictionaries have for it."""
        return self.to_tuple()

    def items(self):
        """Pairs of name and value."""
        return list(zip(self.keys(), self.to_tuple(), strict=True))

    def get(self, name, default=None):
        """The field called `name`, or `default` where it is not set."""
        return dict(self.items()).get(name, default)

    def __getitem__(self, key):
        if not isinstance(key, str):
            return self.to_tuple()[key]
        if key not in self.keys() and key not in self.other_names:
            raise KeyError(f"{key}: this output holds {', '.join(self.keys())}")
        return getattr(self, key)

    def __setitem__(self, key, value):
        if key not in [field.name for field in fields(self)]:
            raise KeyError(f"{key}: this output has {', '.join(field.name for field in fields(self))}")
        setattr(self, key, value)

    def __contains__(self, name):
        return name in self.keys() or name in self.other_names

    def __iter__(self):
        return iter(self.keys())

    def __len__(self):
        return len(self.keys())
