"""The studio: a web application on this machine to listen to recordings, look into the model, and correct it.

It calls the library's functions and computes nothing itself. `serve` starts it; `innertune studio` is its command.
"""
