"""Published corpora. Each file downloads and prepares one."""
