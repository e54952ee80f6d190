"""What the person has set: configuration, key file, where both are."""
