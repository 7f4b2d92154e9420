"""Pages and figures for people, derived from records and shards."""
