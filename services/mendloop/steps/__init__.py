"""Process supervision: an output's steps, which of them are wrong, and the operation of the first wrong one. Pure."""
