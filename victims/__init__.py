"""Forgery localizers: one file a victim, all behind :class:`advbench.victims.base.Victim`."""
