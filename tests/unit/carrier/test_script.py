"""The script language: what it reads, and what it says when it cannot."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.carrier import script, steps
from bridge.carrier.script import ScriptError, parse

pytestmark = pytest.mark.unit

STEPS = [
    ("invite offerless", steps.Invite(body=None)),
    ("invite sendonly", steps.Invite(body="sendonly")),
    ("ring", steps.Ring(seconds=0)),
    ("ring 2s with 183", steps.Ring(seconds=2, status=183)),
    ("early media", steps.EarlyMedia(hertz=425, seconds=0)),
    ("early media 440 1.5s", steps.EarlyMedia(hertz=440, seconds=1.5)),
    ("answer", steps.Answer(after=0)),
    ("answer after 2s", steps.Answer(after=2)),
    ("answer after 2s inactive", steps.Answer(after=2, body="inactive")),
    ("talk", steps.Talk(seconds=None)),
    ("talk 5s", steps.Talk(seconds=5)),
    ("tone 440", steps.Tone(hertz=440, seconds=None)),
    ("tone 440 for 2m", steps.Tone(hertz=440, seconds=120)),
    ("play hello.wav", steps.Play(file="hello.wav", seconds=None)),
    ("wait 500ms", steps.Wait(seconds=0.5)),
    ("stay", steps.Stay(seconds=None)),
    ("hold sendonly 3s", steps.Hold(body="sendonly", seconds=3)),
    ("hold sendonly for 3s", steps.Hold(body="sendonly", seconds=3)),
    ("hold offerless", steps.Hold(body="sendonly", late=True)),
    ("hold offerless-inactive", steps.Hold(body="inactive", late=True)),
    ("hold update", steps.Hold(body="sendonly", method="UPDATE")),
    ("hold update-no-media", steps.Hold(body="no-media", method="UPDATE")),
    (
        "hold zero-address on new connection without rtp",
        steps.Hold(body="zero-address", new_connection=True, rtp=False),
    ),
    ("resume", steps.Resume()),
    ("resume offerless", steps.Resume(late=True)),
    ("resume update on new connection", steps.Resume(method="UPDATE", new_connection=True)),
    ("resume no-direction", steps.Resume(body="no-direction")),
    ("reinvite", steps.Reinvite()),
    ("reinvite t38", steps.Reinvite(body="t38")),
    ("reinvite update", steps.Reinvite(method="UPDATE")),
    ("move", steps.Move()),
    ("rekey on new connection", steps.Rekey(new_connection=True)),
    ("dtmf 12#", steps.Dtmf(digits="12#")),
    ("dtmf 12a by info", steps.Dtmf(digits="12A", info=True)),
    ("busy", steps.Refuse(status=486)),
    ("busy 600", steps.Refuse(status=600)),
    ("decline", steps.Refuse(status=603)),
    ("reject 404 cause 1", steps.Refuse(status=404, cause=1)),
    ("302 sip:1@192.0.2.1", steps.Redirect(status=302, to="sip:1@192.0.2.1")),
    ("302", steps.Redirect(status=302, to="")),
    ("407 sha-256", parse("challenge 407 sha-256")[0]),
    ("401 bye", parse("challenge 401 bye")[0]),
    ("packet loss 5%", steps.Loss(percent=5)),
    ("no answer", steps.NoAnswer(after=None)),
    ("no answer after 3s", steps.NoAnswer(after=3)),
    ("redirect 302 sip:1@a", steps.Redirect(status=302, to="sip:1@a")),
    ("challenge 401", steps.Challenge(status=401)),
    (
        "challenge 407 bye SHA-256 md5-sess with auth-int stale two realms",
        steps.Challenge(
            status=407,
            request="BYE",
            algorithms=("sha-256", "md5-sess"),
            qop="auth,auth-int",
            stale=True,
            realms=2,
        ),
    ),
    ("challenge 401 without qop", steps.Challenge(status=401, qop=None)),
    ("challenge 401 until given up", steps.Challenge(status=401, given_up=True)),
    ("session-expires 1800", steps.SessionExpires(seconds=1800)),
    ("session-expires 90 refresher uas", steps.SessionExpires(seconds=90, refresher="uas")),
    ("refresh", steps.Refresh()),
    ("refresh update on new connection", steps.Refresh(method="UPDATE", new_connection=True)),
    ("too-brief 600", steps.TooBrief(seconds=600)),
    ("close connection", steps.CloseConnection()),
    ("loss 5%", steps.Loss(percent=5)),
    ("jitter 30ms", steps.Jitter(seconds=0.03)),
    ("rtp off", steps.Rtp(on=False)),
    ("options", steps.Options()),
    ("refer 200", steps.Refer(to="200")),
    ("accept refer", steps.AnswerRefer(status=202)),
    (
        "accept refer 200 without notify within 3s",
        steps.AnswerRefer(status=200, notifies=False, within=3),
    ),
    ("refuse refer", steps.AnswerRefer(status=603)),
    ("refuse refer 405", steps.AnswerRefer(status=405)),
    ("notify 180", steps.Notify(status=180)),
    ("notify 200 answered 481", steps.Notify(status=200, answered=481)),
    ("cancel after 1s", steps.Cancel(after=1)),
    ("hangup", steps.Hangup()),
    ("hangup on new connection cause 16", steps.Hangup(new_connection=True, cause=16)),
    ("hangup cause 16 on new connection", steps.Hangup(new_connection=True, cause=16)),
    ("expect answer recvonly", steps.ExpectAnswer(direction="recvonly")),
    ("expect answer port0", steps.ExpectAnswer(direction="port0")),
    ("expect version +1", steps.ExpectVersion(step=1)),
    ("expect version same", steps.ExpectVersion(step=0)),
    ("expect audio", steps.ExpectAudio(hertz=None, within=5)),
    ("expect audio 440 within 3s", steps.ExpectAudio(hertz=440, within=3)),
    ("expect quiet 2s", steps.ExpectQuiet(seconds=2)),
    ("expect silence 2s", steps.ExpectSilence(seconds=2)),
    ("expect rtp within 1s", steps.ExpectRtp(within=1)),
    ("expect dtmf 12# within 1s", steps.ExpectDtmf(digits="12#", within=1)),
    ("expect hangup within 1s cause 16", steps.ExpectHangup(within=1, cause=16)),
    ("expect srtp within 1s", steps.ExpectSrtp(suite=None, within=1)),
    (
        "expect srtp aead_aes_128_gcm",
        steps.ExpectSrtp(suite="AEAD_AES_128_GCM", within=5),
    ),
    ("expect status 487", steps.ExpectStatus(status=487, within=10)),
    ("expect header X-A b", steps.ExpectHeader(name="X-A", value="b")),
    (
        "expect reinvite sendonly within 2s",
        steps.ExpectRequest(method="REINVITE", direction="sendonly", within=2),
    ),
    ("expect notify 180", steps.ExpectNotify(status=180, within=10)),
    ("expect refer", steps.ExpectRequest(method="REFER", direction=None, within=10)),
]

ERRORS = [
    ("frob", 'position 1: unknown statement "frob"; allowed: invite, ring, early, answer'),
    ("answer; talk 5", 'position 14: "5" is not a duration; allowed: 5s, 500ms, 2m'),
    ("hold", 'position 5: "hold" needs hold dialect; allowed: sendonly, '),
    ("hold sendonyl", 'position 6: unknown hold dialect "sendonyl"; allowed: sendonly, '),
    ("hold sendonly loudly", 'position 15: unexpected "loudly"; allowed: on new connection, w'),
    ("hangup now", 'position 8: unexpected "now"; allowed: the end'),
    ("talk; invite offer", 'position 7: "invite" is only allowed as the first statement'),
    ("busy 200", 'position 6: "200" is not a status; allowed: 400-699'),
    ("dtmf 12x", 'position 6: "12X" are not keys; allowed: 0-9, *, #, A-D'),
    ("loss 101%", 'position 6: "101%" is not a percentage; allowed: 0%-100%'),
    ("session-expires 0", 'position 17: "0" is not an interval in seconds; allowed: 1-99999999'),
    ("session-expires 90 refresher me", 'position 30: unknown refresher "me"; allowed: uac, uas'),
    ("challenge 403", 'position 11: unknown status "403"; allowed: 401, 407'),
    ("expect", 'position 7: "expect" needs expectation; allowed: answer, version, audio'),
    ("expect version +2", 'position 16: unknown change "+2"; allowed: +1, same'),
    ("resume offerless update", "position 1: resume is either offerless or by update"),
    ("tone 9000", 'position 6: "9000" is not a frequency in hertz; allowed: 50-3800'),
    ("no", 'position 3: incomplete statement; allowed: no answer [after Ns]'),
]  # fmt: skip


@pytest.mark.parametrize(("text", "step"), STEPS)
def test_a_statement_becomes_its_step(text: str, step: steps.Step) -> None:
    assert parse(text) == (dataclasses.replace(step, text=text, position=1),)


@pytest.mark.parametrize(("text", "message"), ERRORS)
def test_an_error_names_the_position_and_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(ScriptError) as caught:
        parse(text)
    assert str(caught.value).startswith(message)


def test_statements_are_separated_by_semicolons_and_lines() -> None:
    found = parse("answer after 2s ; talk 5s\n\n hold sendonly;;resume;")
    assert [(step.text, step.position) for step in found] == [
        ("answer after 2s", 1),
        ("talk 5s", 19),
        ("hold sendonly", 29),
        ("resume", 44),
    ]


def test_every_statement_and_every_expectation_stands_in_the_table_above() -> None:
    verbs = {text.split()[0] for text, _ in STEPS}
    assert verbs | {"expect"} == set(script.STATEMENTS)
    expectations = {text.split()[1] for text, _ in STEPS if text.startswith("expect")}
    missing = set(script.EXPECTATIONS) - expectations
    assert missing == {"update", "options", "info"}  # read as reinvite and refer are


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ScriptError):
        found = parse(text)
        assert all(text[step.position - 1 :].startswith(step.text) for step in found)
