"""The script language for those who write scripts: ``trunkbridge carrier --help`` prints it."""

from __future__ import annotations

from typing import Final

LANGUAGE: Final = """\
A script is a list of statements, separated by ";". Durations: 5s, 500ms, 2m.

called leg     ring [Ns] [with 183] | early media [HZ] [Ns] | answer [after Ns] [BODY]
               busy [486] | decline [603] | reject STATUS [cause N] | no answer [after Ns]
               redirect [302] [TO], or 302 [TO] | challenge 401|407 [DIGEST ...]
               [until given up], or 401 …, 407 …
               too-brief SECONDS (422 with that Min-SE; the next INVITE must ask for it)
dialled leg    invite offerless|BODY (first) | cancel [after Ns]
sound          talk [Ns] | tone HZ [Ns] | play FILE [Ns] | dtmf 12# [by info]
               rtp on|off | loss P%, or packet loss P% | jitter Nms
in the call    hold DIALECT [Ns] [on new connection] [without rtp]
               resume [offerless|update|no-direction] [on new connection]
               reinvite [BODY] [update] [on new connection] | move | options | refer TO
               accept refer [202] [without notify] | refuse refer [603] [within Ns]
               notify STATUS [answered N] (of the far end's transfer; from 200 on the last)
               rekey [on new connection] (a new key for SRTP; move has one, too)
               session-expires SECONDS [refresher uac|uas] (in our INVITE or 200; anywhere)
               refresh [update] [on new connection]
               challenge 401|407 reinvite|bye|update|options|info [DIGEST ...]
               close connection | wait Ns | stay [Ns] | hangup [on new connection] [cause N]
expectations   expect answer sendrecv|sendonly|recvonly|inactive|port0
               expect version +1|same | expect status N [within Ns]
               expect audio [HZ] [within Ns] | expect quiet Ns | expect silence Ns
               expect srtp [SUITE] [within Ns] (in force, and something authentic came)
               expect rtp [within Ns] | expect dtmf 12# [within Ns]
               expect hangup [within Ns] [cause N] | expect header NAME [VALUE]
               expect reinvite|update|options|info|refer [DIRECTION] [within Ns]
               expect notify STATUS [within Ns] (of the transfer we asked for)

BODY is offer, no-direction, recvonly, t38 or a hold: sendonly, sendonly-session, inactive,
inactive-session, zero-address, zero-address-sendonly, zero-address-inactive,
zero-address-ipv6, no-media. DIALECT is a hold, or offerless[-HOLD], or update[-HOLD].
DIGEST is md5, sha-256, sha-512-256, each also with -sess, or unknown (several: challenges in
that order), without qop, with auth-int, stale (the first right answer is too old), two realms
(a 401's and a 407's in one response). Credentials are checked by --user NAME:PASSWORD, nc and
opaque too, and of several the best algorithm must be used. A challenge in the call is for
the next such request and waits for nothing; until given up: no credentials are right.
hold, resume, reinvite and move check the answer; hold with a time also that no RTP comes.
"""
