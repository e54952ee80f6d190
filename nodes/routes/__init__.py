"""The pack's HTTP routes."""
