"""Stores: where decisions, outcomes, histories and models are kept."""
