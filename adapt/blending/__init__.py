"""Blend models in weight space: between a base and its adaptation, or several models into one. Nothing is trained."""
