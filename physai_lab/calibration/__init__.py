"""Finds what a robot's model lacks, from its own motion."""
