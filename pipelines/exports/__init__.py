"""Published curated tables to the forms that other tools read; one file a form."""
