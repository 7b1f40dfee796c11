"""Experiments: what was trained, how, and how well it does."""

from cb_core.tracking.experiment import Experiment

__all__ = ["Experiment"]
