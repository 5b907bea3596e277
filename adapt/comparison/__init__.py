"""Compare two models: metrics, words, weights, neurons and causes, as plain data."""
