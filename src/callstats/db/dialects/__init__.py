"""What each database needs of its own."""
