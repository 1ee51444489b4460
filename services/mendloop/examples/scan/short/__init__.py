"""Short SCAN commands: second names for verbs, verbs that the prompt explains, and questions how many actions."""
