"""The rows and Arrow schemas of the tables that stages pass to one another."""
