"""From a question about an image to a verdict."""
