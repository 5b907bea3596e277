"""Compare two models: quality, words, weights, neurons and causes, as plain data."""
