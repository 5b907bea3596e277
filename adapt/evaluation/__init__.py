"""What `innertune evaluate` and `steer` measure: a model under interventions, at several settings, with controls."""
