"""The figures of the ANSM paper, drawn from records and shards."""
