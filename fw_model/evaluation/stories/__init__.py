"""The stories to film, and what is known about them."""
