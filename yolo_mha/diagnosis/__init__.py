"""`doctor`: one page before hours of training."""
