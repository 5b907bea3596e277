"""Corrections in hidden states: an editable memory at one layer, with exact undo."""
