"""Films as data for pretraining the small models."""
