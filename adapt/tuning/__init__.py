"""What may be trained: all weights, layers, neurons, LoRA, biases or norms."""
