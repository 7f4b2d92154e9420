"""Forged photographs with masks: manifests, decoding, importers and the built-in dataset."""
