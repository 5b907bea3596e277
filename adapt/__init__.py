"""Adapt speech recognisers and translation models from the inside: measure, choose, change and compare."""
