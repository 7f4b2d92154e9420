"""MVSS-Net (docs/victims/mvssnet.md)."""
