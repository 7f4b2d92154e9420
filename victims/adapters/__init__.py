"""Localizers of other packages as victims, and :func:`advbench.wrap` for any ``nn.Module``."""
