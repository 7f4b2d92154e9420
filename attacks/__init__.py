"""White-box attacks on forgery localizers: one file an attack, listed in the registry."""
