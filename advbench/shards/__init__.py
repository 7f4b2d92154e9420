"""HDF5 shards: originals once, adversarial images as residuals, everything hashed."""
