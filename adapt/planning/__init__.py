"""Plan which data to label next: the learning curve and its forecast, and the choice of the next examples."""
