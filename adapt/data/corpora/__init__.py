"""Published corpora. Each module downloads and prepares one corpus."""
