"""The activity of layers while a model reads one example, and the examples that excite a neuron most."""
