"""A user's corrections of a loaded model: which layer holds them, what they must leave unchanged, and the memory itself."""
