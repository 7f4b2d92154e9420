"""CoDE (docs/victims/code.md)."""
