"""Training, prediction and loading, with Ultralytics doing the work."""
