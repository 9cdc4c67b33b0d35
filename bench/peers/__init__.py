"""Other implementations of the same work, for comparison; each is optional."""


class PeerMissingError(RuntimeError):
    """A peer cannot be run here; the message says what is missing."""
