"""The kinds of input that are fuzzed, one module each.

A module has a function `prepare(work)`, which writes the valid files to start from into the folder `work` and returns a
function `make(draw, folder)`. This one writes one damaged input into the empty `folder` and returns a `Case`.
"""
