"""Models: one file per family behind one interface, with the tasks, checkpoints and inference that they share."""
