"""The gateway: runs over REST and the event stream for people and other teams.

Owns keys, sessions and the audit log in SQL; the rest of its state is the fold of the log, held in memory (at most
keep_runs runs). Nobody passes its gate without a scope.
Consumes all events, without a group. Produces LoopRequested, LoopCancelled, LoopSteered and
ApprovalGiven.
Promises that an answered request is committed on the bus, that a repeated one does nothing twice, and that a stream
resumed from an id loses no event.
"""
