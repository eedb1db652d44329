"""From a folder of images to a trained and evaluated model, on local Ray, from one job file."""

__version__ = "0.1.0"
