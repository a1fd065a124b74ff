"""Text encoders for cross-attention. One file an implementation."""
