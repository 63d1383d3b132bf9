"""Client for the contact and reservation register.

connect() opens a channel for the stubs in krr.v1; look_up_persons() looks up any number of
persons, and import_persons() enters any number; push_events() pushes an operator's events;
follow_changes() follows the change feed for ever, as follow_mailboxes() does an operator's own.
What is refused is a RegisterError.
"""

from krr_client.channel import connect
from krr_client.errors import BrokenAnswer, RegisterError
from krr_client.follow import ChangesPage, Following, MailboxesPage, follow_changes, follow_mailboxes
from krr_client.import_persons import import_persons
from krr_client.look_up import look_up_persons
from krr_client.push_events import push_events

__all__ = [
    "BrokenAnswer",
    "ChangesPage",
    "Following",
    "MailboxesPage",
    "RegisterError",
    "connect",
    "follow_changes",
    "follow_mailboxes",
    "import_persons",
    "look_up_persons",
    "push_events",
]
