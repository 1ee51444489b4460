"""How the evaluation loop hangs on a trainer: the Hugging Face callback."""
