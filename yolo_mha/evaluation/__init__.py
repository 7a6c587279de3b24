"""Comparing detectors: paired runs, statistics, reports; and what to look at before training."""
