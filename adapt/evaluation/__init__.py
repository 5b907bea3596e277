"""Evaluate a model on test data, with interventions and controls; fit steering vectors; select neurons."""
