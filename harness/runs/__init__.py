"""One run: its options, what they resolve to, what it will ask for, and the run itself."""
