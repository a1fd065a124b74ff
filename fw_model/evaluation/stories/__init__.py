"""The stories that are filmed, and what is known of them."""
