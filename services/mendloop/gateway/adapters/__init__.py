"""The gateway's web side (FastAPI) and its way to submission."""
