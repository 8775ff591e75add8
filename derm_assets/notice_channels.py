"""How a notice reaches people: a webhook, Slack, mail. Each is off until its variable is set (.env.example).

    DERM_NOTICE_WEBHOOK   gets a POST of JSON: kind, task, title, text, link
    DERM_NOTICE_SLACK     an incoming webhook of Slack (or Mattermost): gets {"text": …}
    DERM_NOTICE_MAIL      addresses; through DERM_SMTP

Dagster's own mail and Slack sensors speak of failed runs alone, so one sensor (notices.py) speaks of everything here.
"""

from __future__ import annotations

import json
import os
import smtplib
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from email.message import EmailMessage
from typing import Any
from urllib.parse import urlsplit

from derm_ml import DermError

WEBHOOK, SLACK, MAIL, SMTP = "DERM_NOTICE_WEBHOOK", "DERM_NOTICE_SLACK", "DERM_NOTICE_MAIL", "DERM_SMTP"
VARIABLES = (WEBHOOK, SLACK, MAIL)
FROM, USER, PASSWORD = "DERM_SMTP_FROM", "DERM_SMTP_USER", "DERM_SMTP_PASSWORD"
_WAIT = 10.0  # seconds for one delivery; Dagster ends a look that takes longer than a minute
_TLS_PORT = 465  # where a mail server speaks TLS from the first byte; elsewhere it is asked for (STARTTLS)

Send = Callable[["Notice"], None]


class NoticeError(DermError, RuntimeError):
    """A notice could not be delivered, or its channel is set wrongly; the message names the variable, not its value."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What happened and what to do. Names of tasks, steps, checks and versions; no file, image, batch or patient."""

    kind: str
    task: str
    title: str
    text: str
    link: str = ""

    def plain(self) -> str:
        return "\n".join(filter(None, (self.title, self.text, self.link)))


def channels() -> dict[str, Send]:
    """The variables that are set, and what sends a notice there. Raises `NoticeError` for what is no address."""
    found: dict[str, Send] = {}
    for variable, body in ((WEBHOOK, asdict), (SLACK, lambda notice: {"text": notice.plain()})):
        if url := os.environ.get(variable, "").strip():
            if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
                raise NoticeError(f"{variable} is no address: write https://…")
            found[variable] = _posting(variable, url, body)
    if to := os.environ.get(MAIL, "").strip():
        found[MAIL] = _mailing([address.strip() for address in to.split(",") if address.strip()])
    return found


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A POST that is redirected would arrive elsewhere, as a GET without its text."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _posting(variable: str, url: str, body: Callable[[Notice], Mapping[str, str]]) -> Send:
    def send(notice: Notice) -> None:
        request = urllib.request.Request(
            url, json.dumps(body(notice)).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        try:
            urllib.request.build_opener(_NoRedirect).open(request, timeout=_WAIT).close()
        except urllib.error.HTTPError as error:
            raise NoticeError(f"{variable}: the server answered {error.code}; the notice is sent again later") from None
        except OSError as error:  # URLError and time-outs are
            why = getattr(error, "reason", error)
            raise NoticeError(f"{variable}: {why}; the notice is sent again later") from None

    return send


def _mailing(to: list[str]) -> Send:
    server = os.environ.get(SMTP, "localhost:25").strip()
    host, _, port = server.rpartition(":")
    if not host or not port.isdecimal():
        raise NoticeError(f"{SMTP} is '{server}': write host:port, such as mail.example.org:587")
    user, password = os.environ.get(USER, ""), os.environ.get(PASSWORD, "")

    def send(notice: Notice) -> None:
        message = EmailMessage()
        message["Subject"] = f"derm: {notice.title}"
        message["From"] = os.environ.get(FROM, "").strip() or to[0]
        message["To"] = ", ".join(to)
        message.set_content("\n\n".join(filter(None, (notice.text, notice.link))))
        try:
            with _connected(host, int(port), encrypted=bool(user)) as connection:
                if user:
                    connection.login(user, password)
                connection.send_message(message)
        except (OSError, smtplib.SMTPException) as error:
            raise NoticeError(f"{MAIL}: {server} says: {error}; the notice is sent again later") from None

    return send


def _connected(host: str, port: int, encrypted: bool) -> smtplib.SMTP:
    """A connection, encrypted wherever the server can. `encrypted`: else refused, since a password is to be sent."""
    if port == _TLS_PORT:
        return smtplib.SMTP_SSL(host, port, timeout=_WAIT, context=ssl.create_default_context())
    connection = smtplib.SMTP(host, port, timeout=_WAIT)
    connection.ehlo()
    if connection.has_extn("starttls"):
        connection.starttls(context=ssl.create_default_context())
    elif encrypted:
        connection.close()
        raise smtplib.SMTPNotSupportedError("no encryption, and the password is not sent in the clear")
    return connection
