"""Models as MindIR files, and what runs from these files alone: what the families' own `mindir` have in common."""
