"""The 13 tasks of RULER, filled to the token, or drawn as the generators of others draw them."""
