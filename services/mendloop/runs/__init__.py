"""A run as people see it: the fold of its events, and the stream of events as they are committed.

Read by gateway, command line and report. `view` holds what a run is, `stream` what happens.
"""
