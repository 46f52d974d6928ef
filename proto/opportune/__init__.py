"""The contract between Opportune and its clients, a package for each version."""
