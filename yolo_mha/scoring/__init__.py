"""COCO scores of a model or of a predictions file."""
