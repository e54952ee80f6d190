"""Reports for people: HTML, pictures, tables."""
