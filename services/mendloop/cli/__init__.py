"""`mend`: the command line. Starts services, submits recipes, shows what happens and why."""
