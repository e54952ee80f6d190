"""What an API prompt is and will do: which nodes run and repeat, and what they spend. Knows no ComfyUI."""
