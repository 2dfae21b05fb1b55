"""Trains the learned parts and exports them as bundles."""
