"""Attribute the words of an output to the input, and to the units of each layer."""
