"""Datasets: reading, checking, and the generated default."""
