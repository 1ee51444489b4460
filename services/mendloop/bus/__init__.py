"""The event bus: one interface, a durable SQLite bus and Apache Kafka, and the consume loop that runs handlers."""
