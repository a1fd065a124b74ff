"""What a training step reads: the encoded dataset, the plan, batches."""
