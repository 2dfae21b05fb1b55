"""What computes a bundle: engines, golden cases, comparisons, times."""
