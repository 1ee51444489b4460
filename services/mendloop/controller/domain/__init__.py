"""How the controller decides: pure values in, values out."""
