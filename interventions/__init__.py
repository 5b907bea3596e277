"""Read and write a model's inside: where (sites), which (neurons), how (hooks), what (one idea a file)."""
