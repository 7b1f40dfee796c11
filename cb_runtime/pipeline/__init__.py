"""Stages of work that run ahead of each other, each in a thread of its own, and what they do with their time."""

from cb_runtime.pipeline.clock import counted, working
from cb_runtime.pipeline.profile import Profile, StageProfile
from cb_runtime.pipeline.stage import Halted, Pipeline

__all__ = ["Halted", "Pipeline", "Profile", "StageProfile", "counted", "working"]
