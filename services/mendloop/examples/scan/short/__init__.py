"""Short SCAN commands: second names for verbs, verbs that the prompt explains, and questions which lamp is lit."""
