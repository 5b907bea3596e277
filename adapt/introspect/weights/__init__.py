"""Compare the weights of two models, by parameter and by neuron."""
