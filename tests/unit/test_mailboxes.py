"""Mailboxes on disk: nothing is read twice, nothing is missed, and no mail is too long."""

from pathlib import Path

import pytest

from consumers.mailboxes import Mailbox, MailboxError
from pipeline.notifications.mail.bounces import READ_BYTES_MAX

ONE, TWO = b"Subject: one\n\nbody\n>From here\n", b"Subject: two\n\nbody\n"


def mbox(*mails: bytes) -> bytes:
    return b"".join(b"From MAILER-DAEMON Sat Nov 21 10:00:00 2026\n" + mail + b"\n" for mail in mails)


@pytest.fixture
def maildir(tmp_path: Path) -> Path:
    (tmp_path / "new").mkdir()
    return tmp_path


def test_an_mbox_file_is_read_on_from_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    path.write_bytes(mbox(ONE))
    mailbox = Mailbox(path)
    assert list(mailbox.unread()) == [ONE + b"\n"]
    assert list(mailbox.unread()) == []
    with path.open("ab") as file:
        file.write(mbox(TWO, ONE))
    assert list(mailbox.unread()) == [TWO + b"\n", ONE + b"\n"]
    path.write_bytes(mbox(TWO))  # it was emptied, and something came
    assert list(mailbox.unread()) == [TWO + b"\n"]
    assert list(Mailbox(path).unread()) == [TWO + b"\n"]


def test_what_comes_before_the_first_mail_is_none(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    path.write_bytes(b"\n\nnoise\n" + mbox(ONE))
    assert len(list(Mailbox(path).unread())) == 1
    path.write_bytes(b"")
    assert list(Mailbox(path).unread()) == []


def test_a_maildir_gives_each_mail_once(maildir: Path) -> None:
    (maildir / "new/1").write_bytes(ONE)
    (maildir / "new/2").write_bytes(TWO)
    (maildir / "new/.hidden").write_bytes(TWO)
    mailbox = Mailbox(maildir)
    assert list(mailbox.unread()) == [ONE, TWO]
    assert list(mailbox.unread()) == []
    assert sorted(path.name for path in (maildir / "cur").iterdir()) == ["1:2,S", "2:2,S"]


@pytest.mark.parametrize("form", ["mbox", "maildir"])
def test_a_mail_that_could_not_be_taken_in_comes_again(maildir: Path, form: str) -> None:
    if form == "mbox":
        path = maildir / "mbox"
        path.write_bytes(mbox(ONE, TWO))
    else:
        path = maildir
        (path / "new/1").write_bytes(ONE)
        (path / "new/2").write_bytes(TWO)
    mailbox = Mailbox(path)
    for mail in mailbox.unread():
        if mail.startswith(TWO):
            break  # an error: the shard is away
    assert [mail.rstrip() for mail in mailbox.unread()] == [TWO.rstrip()]


def test_of_a_long_mail_the_beginning_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    path.write_bytes(mbox(ONE + b"x" * 50 * READ_BYTES_MAX, b"y\n" * READ_BYTES_MAX, TWO))
    one, long, two = Mailbox(path).unread()
    assert len(one) <= 2 * READ_BYTES_MAX
    assert len(long) <= READ_BYTES_MAX + 2
    assert two == TWO + b"\n"


def test_what_is_no_mailbox_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MailboxError, match="no such file"):
        Mailbox(tmp_path / "nothing")
    with pytest.raises(MailboxError, match="no folder `new`"):
        Mailbox(tmp_path)
