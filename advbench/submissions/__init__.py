"""A defense's records, packed to be sent, checked as untrusted, and merged into a leaderboard."""
