"""Neuron activation profiles: the mean response of each unit to phonemes, letters, accents, ..."""
