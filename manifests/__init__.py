"""Dataset manifests, suites of runs and published leaderboards."""
