"""Measuring artifacts on this machine: how fast, with how much memory, and how far apart two of them are."""
