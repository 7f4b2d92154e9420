"""Bring the families together: datasets, victims, attacks, defenses, shards and scores."""
