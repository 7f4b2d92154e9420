"""One file a source layout: each writes a manifest and leaves the originals untouched."""
