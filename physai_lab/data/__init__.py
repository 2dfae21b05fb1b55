"""Demonstrations and the datasets that hold them."""
