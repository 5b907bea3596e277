"""Probes: which neurons know an accent, a speaker, a phoneme, and how well a simple classifier can read it off them."""
