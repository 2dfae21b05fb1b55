"""`physai task`: begin a task of one's own, check one, list those that there are."""
