"""What is done: rows committed by id and settings, and the tables published from them."""
