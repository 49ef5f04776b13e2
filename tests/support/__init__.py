"""What the tests stand on: seeded inputs, a slow reference, the vectors, and the comparison of the two backends."""
