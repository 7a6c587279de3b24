"""What a model attends to: attention recorded beside the fused kernel, and what one detection looked at."""
