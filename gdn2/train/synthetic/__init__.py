"""Small models trained on tasks with known answers: what an architecture can learn, without a language in the way."""
