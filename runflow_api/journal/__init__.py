"""What was asked, paid and answered: the memory that survives a crash."""
