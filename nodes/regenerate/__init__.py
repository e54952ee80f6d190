"""Regenerate until passed: loops."""
