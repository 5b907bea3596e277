"""The options of the command line: which there are, what each stands for, and how Hydra is to read it."""
