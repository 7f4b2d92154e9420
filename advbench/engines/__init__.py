"""Where work units run: content-keyed, in any order, on any engine, with the same result."""
