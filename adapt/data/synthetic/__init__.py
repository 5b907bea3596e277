"""Synthetic data: accented speech from espeak-ng, and sentence pairs from grammars."""
