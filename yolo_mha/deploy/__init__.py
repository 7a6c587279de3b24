"""Exported models and their agreement with PyTorch."""
