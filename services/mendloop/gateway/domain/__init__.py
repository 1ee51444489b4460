"""What the gateway decides without web, bus or clock."""
