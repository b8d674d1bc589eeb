"""What a person sees: tables, summaries and progress, drawn from values that other packages computed."""
