"""Synthetic profiles with a spatial order."""

import numpy as np
import pytest


@pytest.fixture
def profiles():
    """Profiles `(120, 8)` of units on a sheet; each responds to nearby groups, with a random strength."""
    draw = np.random.default_rng(3)
    places, groups = draw.uniform(size=(120, 2)), draw.uniform(size=(8, 2))
    ways = np.linalg.norm(places[:, None] - groups, axis=2)
    made = draw.uniform(0.5, 2, (120, 1)) * np.exp(-((ways / 0.35) ** 2))
    return made - made.mean(1, keepdims=True)
