"""The gateway: runs over REST and the event stream for people and other teams.

Owns in SQL a copy of the log with what lists and searches need of it (at most keep_runs finished runs), keys,
sessions, the audit log and webhooks. Nobody passes its gate without a scope.
Consumes all events, without a group. Produces LoopRequested, LoopCancelled, LoopSteered and
ApprovalGiven.
Promises that an answered request is committed on the bus, that a repeated one does nothing twice, and that a stream
resumed from an id loses no event.
"""
