"""Compare groups of speakers or domains: their error rates, and the neurons that respond differently to them."""
