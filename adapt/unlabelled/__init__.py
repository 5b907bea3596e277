"""Adapt a model to recordings without transcripts, or to sentences without translations."""
