"""Input that nobody thought of: a fuzzer guided by coverage, and mutants of stored histograms."""
