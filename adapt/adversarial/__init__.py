"""Adversarial audio, to study and harden one's own recogniser."""
