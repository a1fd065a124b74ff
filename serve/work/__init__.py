"""The work behind the API: jobs, chunks, the loop that generates them."""
