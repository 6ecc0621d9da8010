"""Watching a run: signs taken of the model, and the rules that read them."""
