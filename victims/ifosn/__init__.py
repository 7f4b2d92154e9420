"""IF-OSN (docs/victims/ifosn.md)."""
