"""Offline tools and the `physai` command line: demonstrations, training, export, evaluation, reports."""
