"""Train networks: one loop for victims and ANSM."""
