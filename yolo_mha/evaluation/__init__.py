"""Scoring detectors and comparing them."""
