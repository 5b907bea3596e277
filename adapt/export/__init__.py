"""Export a model to other tools: one file per format, the proof that it answers the same, and the card for the hub."""
