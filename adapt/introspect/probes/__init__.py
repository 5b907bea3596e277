"""Probe layers for a target: which layers and which units encode the accent, the phoneme, the speaker, ..."""
