"""What the journal tells: which settings made good images, and whether a judge agrees with the person."""
