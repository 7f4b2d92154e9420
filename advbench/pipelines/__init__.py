"""Where the families meet: datasets, victims, attacks, defenses, shards and scores."""
