"""Putting blocks into a model and taking them out: rows, YAML text, weights."""
