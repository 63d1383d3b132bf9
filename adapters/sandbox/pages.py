"""Pages on which a person looks at what the sandboxes were sent."""

from collections.abc import Sequence
from typing import Any

import jinja2
from starlette.responses import HTMLResponse

_pages = jinja2.Environment(
    undefined=jinja2.StrictUndefined,
    autoescape=True,
    loader=jinja2.DictLoader(
        {
            "frame": """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark">
<meta name="viewport" content="width=device-width"><title>{% block title %}{% endblock %}</title><style>
body { font: 16px/1.4 sans-serif; max-width: 46em; margin: 2em auto; padding: 0 1em }
time { opacity: .6; font-size: 14px } li { list-style: none; margin: 0 0 1em } ul { padding: 0 }
.bubble { border: 1px solid; border-radius: 1em; padding: .6em 1em; max-width: 24em; margin: .2em 0 0 }
iframe { width: 100%; height: 28em; border: 1px solid } pre { white-space: pre-wrap; border: 1px solid;
padding: 1em }</style></head><body>{% block body %}{% endblock %}</body></html>""",
            "phones": """{% extends "frame" %}{% block title %}Phones{% endblock %}{% block body %}
<h1>What phones show</h1>{% for recipient, messages in phones %}<h2>{{ recipient }}</h2><ul>
{% for message in messages %}<li><time>{{ message.received_time[:19] }}</time>
<p class="bubble">{{ message.text }}</p></li>{% endfor %}</ul>
{% else %}<p>Nothing was sent.</p>{% endfor %}{% endblock %}""",
            "mails": """{% extends "frame" %}{% block title %}Mailboxes{% endblock %}{% block body %}
<h1>Mailboxes</h1>{% for recipient, mails in mailboxes %}<h2>{{ recipient }}</h2><ul>
{% for mail in mails %}<li><time>{{ mail.received_time[:19] }}</time>
<a href="mailbox/{{ mail.number }}">{{ mail.subject }}</a></li>{% endfor %}</ul>
{% else %}<p>Nothing was sent.</p>{% endfor %}{% endblock %}""",
            "mail": """{% extends "frame" %}{% block title %}{{ mail.subject }}{% endblock %}{% block body %}
<p><a href="../mailbox">all</a></p><h1>{{ mail.subject }}</h1>
<p>{{ mail.sender }} to {{ mail.recipient }}, <time>{{ mail.received_time[:19] }}</time></p>
<h2>In a browser</h2><iframe sandbox srcdoc="{{ mail.html }}"></iframe>
<h2>In a terminal</h2><pre>{{ mail.text }}</pre>{% endblock %}""",
        }
    ),
)


def phones_page(messages: Sequence[dict[str, Any]]) -> HTMLResponse:
    """Text messages by number, the newest first."""
    return _page("phones", phones=_by_recipient(messages))


def mailboxes_page(mails: Sequence[dict[str, Any]]) -> HTMLResponse:
    """Mails by address, the newest first."""
    return _page("mails", mailboxes=_by_recipient(mails))


def mail_page(mail: dict[str, Any]) -> HTMLResponse:
    """One mail, as a browser and as a terminal show it."""
    return _page("mail", mail=mail)


def _page(name: str, **values: Any) -> HTMLResponse:
    # What was sent is shown, and nothing in it is run or fetched.
    policy = "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'"
    return HTMLResponse(_pages.get_template(name).render(values), headers={"Content-Security-Policy": policy})


def _by_recipient(messages: Sequence[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    recipients = dict.fromkeys(message["recipient"] for message in reversed(messages))
    return [
        (recipient, [message for message in reversed(messages) if message["recipient"] == recipient])
        for recipient in recipients
    ]
