"""Checkpoints as transformers saves them: what they say, and the way to a bundle (docs/howto/import.md)."""
