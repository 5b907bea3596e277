"""Corrections of a model's answers as edits at one layer: an editable memory with exact removal."""
