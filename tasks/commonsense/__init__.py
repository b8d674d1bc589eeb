"""Language modelling and commonsense as lm-evaluation-harness has them, over staged rows."""
