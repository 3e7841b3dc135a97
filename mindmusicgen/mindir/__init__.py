"""Models as MindIR files: `export` writes the compiled pieces of one, `runtime` makes music from the files alone."""
