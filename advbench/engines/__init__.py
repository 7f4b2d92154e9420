"""Run work units: content-keyed, in any order, on any engine, with the same result."""
