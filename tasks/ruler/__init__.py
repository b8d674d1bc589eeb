"""Needle tasks of RULER, filled to the token."""
