"""Heads: what turns features into a critic value."""

from .multiscale import FeatureMixing, MultiScaleHead
from .vector import AuxiliaryClassifierHead, LinearHead, ProjectionHead, make_head

__all__ = [
    "AuxiliaryClassifierHead",
    "FeatureMixing",
    "LinearHead",
    "MultiScaleHead",
    "ProjectionHead",
    "make_head",
]
