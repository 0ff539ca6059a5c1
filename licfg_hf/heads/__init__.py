"""Heads: what turns features into a critic value."""

from .vector import AuxiliaryClassifierHead, LinearHead, ProjectionHead, make_head

__all__ = ["AuxiliaryClassifierHead", "LinearHead", "ProjectionHead", "make_head"]
