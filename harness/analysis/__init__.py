"""What records say together: runs by name, comparisons, failures, lengths. Values only; `show` draws them."""
