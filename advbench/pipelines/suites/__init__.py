"""Plan and run whole grids from one TOML file."""
