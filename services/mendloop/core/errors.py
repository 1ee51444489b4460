"""The error tree. A handler says with the type what the bus shall do.

MendloopError
├── Retryable     try again later, with backoff (a broker hiccup, a teacher that times out)
├── Permanent     never try again: to the dead letters with the reason
│   ├── CorruptArtifact   bytes do not match their hash
│   ├── InvalidEvent      an event that cannot be read
│   ├── InvalidRecipe     a recipe that cannot be run
│   ├── InvalidResults    a file of results made elsewhere that cannot be read as outcomes
│   ├── InvalidReview     people's annotations that cannot be read, or that do not fit the batch
│   └── TrainingFailed    (of mendloop.trainer) a training without a checkpoint, with evidence: an event, no dead letter
└── Interrupted   the service was told to stop: give the work back, somebody else goes on
"""

from __future__ import annotations


class MendloopError(Exception):
    """Base of all errors that Mendloop raises on purpose."""


class Retryable(MendloopError):
    """A fault that may pass; the event is tried again later."""


class Permanent(MendloopError):
    """A fault that will not pass; the event goes to the dead letters."""


class CorruptArtifact(Permanent):
    """An artifact's bytes are missing, truncated or changed."""


class InvalidEvent(Permanent):
    """An event cannot be read as the message that its header names."""


class InvalidRecipe(Permanent):
    """A recipe cannot be run; the message names file, line, field and value."""


class InvalidResults(Permanent):
    """Results made elsewhere cannot be read; the message names file, line or sample, field and value."""


class InvalidReview(Permanent):
    """Annotations of a batch cannot be taken over; the message names the file, the rows and what to do."""


class Interrupted(MendloopError):
    """The service stops; the work is given back unfinished."""
