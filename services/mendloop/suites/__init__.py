"""Suites that come from elsewhere, as task families (entry-point group mendloop.tasks)."""
