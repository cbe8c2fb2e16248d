"""A resolver for the processes of a test."""
