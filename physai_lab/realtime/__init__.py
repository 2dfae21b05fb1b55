"""Whether this machine keeps time, and what to change where it does not."""
