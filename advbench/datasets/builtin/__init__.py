"""The built-in dataset: forgeries made from photographs that the dependencies' wheels carry."""
