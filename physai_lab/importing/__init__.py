"""Policies that come from elsewhere."""
