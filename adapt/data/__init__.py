"""Data: manifests of utterances and sentence pairs, splits, audio, and the loader that makes batches of them."""
