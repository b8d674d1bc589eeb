"""Text that documents are made of: haystacks, words, kinds of keys and values, filling to the token, tokenizers."""
