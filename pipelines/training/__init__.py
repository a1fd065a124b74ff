"""Training on Ray: the job, its workers, their feed and DeepSpeed."""
