"""Sets of images, and the loader that hands them to training."""

from .config import PRESETS, DataConfig
from .image_sets import ImageSet, number_of_classes
from .loader import StepLoader
from .sources import open_images

__all__ = ["PRESETS", "DataConfig", "ImageSet", "StepLoader", "number_of_classes", "open_images"]
