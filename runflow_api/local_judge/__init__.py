"""The judge that measures pixels on this machine."""
