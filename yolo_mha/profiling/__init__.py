"""What training and inference cost, measured before hours are spent: memory, time, operations."""
