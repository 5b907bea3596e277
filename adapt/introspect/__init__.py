"""What a model's neurons do, and what changed in them."""
