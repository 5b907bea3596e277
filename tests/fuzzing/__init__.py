"""Damaged and invented input files: each is read, or refused with a sentence, within bounded time and memory."""
