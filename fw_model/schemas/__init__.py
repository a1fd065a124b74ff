"""The Arrow schemas of the tables that stages hand to one another."""
