"""Change an image before the victim sees it: one file a defense."""
