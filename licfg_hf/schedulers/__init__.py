"""Noise schedules, as diffusers schedulers."""

from .ddgan import DDGANScheduler, DDGANSchedulerOutput

__all__ = ["DDGANScheduler", "DDGANSchedulerOutput"]
