"""What a folder of labelled images is: one reader a format, and the one place that picks among them."""
