"""Fine-tuning and pretraining: the Lightning module, the loop, the cached prefix, the dry run."""
