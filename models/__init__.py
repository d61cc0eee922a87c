"""How the built-in model is made and checked."""
