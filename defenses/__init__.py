"""What is done to an image before the victim sees it: one file a defense."""
