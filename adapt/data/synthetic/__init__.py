"""Data sets made on the spot: accented speech by espeak-ng, and sentence pairs from grammars."""
