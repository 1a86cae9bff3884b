"""Fuzzers, one file a kind: a strategy ``CASES`` and ``attempt(case, folder)``, which gives a case to the product."""
