"""HDF-Net (docs/victims/hdfnet.md)."""
