"""Data in: sources, what is known of them, and the split into train, validation and test."""
