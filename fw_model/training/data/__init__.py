"""The data of a training step: the encoded dataset, the plan, batches."""
