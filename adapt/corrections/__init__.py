"""Correct single outputs of a loaded model, with limits on what else may change, and undo the corrections exactly."""
