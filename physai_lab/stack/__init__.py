"""Starts a stack, talks to it and looks at it."""
