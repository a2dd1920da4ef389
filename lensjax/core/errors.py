"""The one exception whose message is meant for the person at the keyboard."""


class UserError(ValueError):
    """Bad input. The message is one sentence: what was found, what was expected, what to do."""
