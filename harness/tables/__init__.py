"""Tables of results: `leaderboard` gathers rows, `terminal` and `markdown` draw them."""
