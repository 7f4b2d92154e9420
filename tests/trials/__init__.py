"""Trials of the stores: kills, damage and runs at once, in numbers."""
