"""Where images come from, and the loader that hands them to training."""

from .loader import StepLoader
from .presets import PRESETS, DataPreset
from .sources import DataConfig, ImageSet, number_of_classes, open_images

__all__ = ["PRESETS", "DataConfig", "DataPreset", "ImageSet", "StepLoader", "number_of_classes", "open_images"]
