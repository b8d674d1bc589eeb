"""What runs leave behind: records, protocols, cells, statistics, and the leaderboards that they add up to."""
