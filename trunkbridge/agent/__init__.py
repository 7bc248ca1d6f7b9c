"""For agents: wait for the answer, follow the hold, end the call.

    phone = await PhoneCall.attach(ctx)
    if phone is not None:
        await phone.answered()
        phone.follow(session)

Works with the bridge's events, with its attributes alone (an agent that joins late)
and with livekit/sip, which sends no events and sets ``sip.callStatus`` only. Needs the
extra ``trunkbridge[agent]``; of livekit-agents itself nothing is imported here.
"""

from trunkbridge.agent.phone import TOPIC, CallEnded, PhoneCall, Refused

__all__ = ["TOPIC", "CallEnded", "PhoneCall", "Refused"]
