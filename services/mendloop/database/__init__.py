"""SQL databases of services: how one is opened, migrated and waited for. Knows no service's tables."""
