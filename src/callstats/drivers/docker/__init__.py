"""Run and sample containers."""
