"""Run networks: rows in batches and threads, deterministic arithmetic."""
