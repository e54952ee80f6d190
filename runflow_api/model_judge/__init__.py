"""A judge that sees: a vision model that the person has, asked one yes/no question for each requirement."""
