"""Measure how far weights moved: by parameter, layer and neuron."""
