"""From weights to pictures: diffusers pipelines."""

from .ddgan import DDGANPipeline

__all__ = ["DDGANPipeline"]
