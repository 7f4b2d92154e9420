"""Protocols, metrics, records and tables; imports no torch."""
