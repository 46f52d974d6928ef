"""What is decided and what it was worth: pure, with no I/O and no clock."""
