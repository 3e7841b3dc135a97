"""The networks one by one under transformers' names, and what a call of each returns.

Generation does not pass through here: it runs the compiled steps of `generation.decode_loop`. A call walks the same
parameters once more, operation by operation, so that hidden states and attention weights can be looked at.
"""
