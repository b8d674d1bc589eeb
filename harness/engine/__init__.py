"""Token ids to results: reading, scoring and generating, planned, resumable and exact. Knows no text and no tasks."""
