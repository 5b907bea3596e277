"""Transcribe recordings of any length: words with their times and confidence, and files of them."""
