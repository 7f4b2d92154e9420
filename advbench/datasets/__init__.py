"""Forged photographs with masks: manifests, decoding, importing and the built-in dataset."""
