"""What would have been: logs through the same engine."""
