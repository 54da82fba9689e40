"""SQL for people: a session over all tables, and a database of them."""
