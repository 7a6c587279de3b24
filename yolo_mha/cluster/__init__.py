"""Comparisons beyond one machine: single runs, their state, and jobs for a scheduler."""
