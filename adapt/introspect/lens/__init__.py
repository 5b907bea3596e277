"""The logit lens: what each layer would write, and from which layer on the model's answer is decided."""
