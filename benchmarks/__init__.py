"""What it costs: measurements against the floor and against others."""
