"""Run and sample processes."""
