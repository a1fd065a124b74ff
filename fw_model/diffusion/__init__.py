"""Flow matching: noise schedules, the training objective, the sampler."""
