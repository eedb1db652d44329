"""Pixels: from bytes to images and back, and the random changes of training. OpenCV and numpy only."""
