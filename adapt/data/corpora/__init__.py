"""Published corpora: each file downloads and prepares one."""
