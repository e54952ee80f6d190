"""Everything that knows Runflow, and nothing that knows ComfyUI."""
