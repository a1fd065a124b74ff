"""Batch jobs on Ray: curate, encode, train, evaluate, and the toy films they are shown on."""
