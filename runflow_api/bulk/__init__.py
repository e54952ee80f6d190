"""Many images: a manifest in, a verdict for each of its rows out, in as much memory as a few of them take."""
