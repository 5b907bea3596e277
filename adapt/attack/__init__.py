"""Adversarial audio, to study and harden one's own recogniser: find the quietest perturbation that changes its answer."""
