"""Robot models as their makers publish them: found, read, and what is in them."""
