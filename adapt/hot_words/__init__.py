"""Words that decoding should favour: names and terms of a user's list and corrections, and an n-gram of own texts."""
