"""Converters for checkpoints of other code bases: one file per format."""
