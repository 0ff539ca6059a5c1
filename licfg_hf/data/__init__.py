"""Where images come from, and the loader that hands them to training."""

from .loader import StepLoader
from .sources import DataConfig, ImageSet, open_images

__all__ = ["DataConfig", "ImageSet", "StepLoader", "open_images"]
