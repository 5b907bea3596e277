"""Evaluate a model under interventions, such as steering and ablation, at several strengths and with controls."""
