"""Many prompts from a file: `prompts` reads it, `pieces` says what is to be made and what is there already, `run` makes
it batch by batch, on one rank of several if `ranks` says so, or `workers` spreads it over machines through Ray."""
