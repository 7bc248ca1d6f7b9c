"""Plans of new calls: what was asked for, what the configuration says, in that order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from bridge.call.desks import SipFacts
from bridge.call.plan import AnswerMode, CallPlan, Control, Direction
from bridge.call.requests import BadRequest, DialRequest
from bridge.config.config import Config
from bridge.config.trunk import RouteConfig, TrunkConfig
from bridge.room.convention import room_name
from bridge.sip.flow import Flow
from bridge.trunk.headers import SAID_BY_ANY, copied_headers
from bridge.trunk.numbers import ANONYMOUS, Number, normalise
from bridge.trunk.profiles import profile_of

_NO_ROUTE: Final = RouteConfig()


class Jobs(Protocol):
    """What knows how large an agent's job may be."""

    def check_job(self, plan: CallPlan) -> None:
        """Raise ``ValueError`` when the job metadata of *plan* is too large."""


class Plans:
    """Makes plans. *wall* is the clock of ``created_at``, in seconds; *records*: calls can be."""

    def __init__(
        self,
        config: Config,
        jobs: Jobs,
        *,
        new_id: Callable[[], str],
        wall: Callable[[], float],
        records: bool = False,
    ) -> None:
        self._config = config
        self._jobs = jobs
        self._new_id = new_id
        self._wall = wall
        self._records = records

    def reload(self, config: Config) -> None:
        """Take new trunks, routes and workflows for the plans to come."""
        self._config = config

    def inbound(
        self,
        facts: SipFacts,
        flow: Flow,
        trunk: TrunkConfig,
        called: Number,
        caller: Number,
        route: RouteConfig | None,
    ) -> CallPlan:
        """Return the plan of a call that came in."""
        call_id = self._new_id()
        route = route or _NO_ROUTE
        number = "" if caller.withheld else caller.number
        return CallPlan(
            call_id=call_id,
            direction=Direction.INBOUND,
            trunk=trunk.name,
            profile=trunk.profile,
            room=room_name(
                route.room, call_id=call_id, number=called.number, caller=number or ANONYMOUS
            ),
            created_at=self._wall(),
            phone_number=number,
            withheld=caller.withheld,
            trunk_number=called.number,
            agent=route.agent,
            answer_mode=AnswerMode(route.answer),
            metadata=route.metadata,
            record=self._records,  # contract 3: who calls has no word for it, the operator has
            sip_call_id=facts.call_id,
            sip_tag=facts.remote_tag,
            hostname=flow.remote[0],
            rule_id=route.number,
            headers=copied_headers(facts.remote_headers, trunk.header_attributes),
            remote_headers=facts.remote_headers,
            **self._of_trunk(trunk),
        )

    def outbound(self, request: DialRequest) -> tuple[CallPlan, TrunkConfig]:
        """Return the plan of a call to make, and its trunk. Raises `BadRequest`."""
        slug = request.workflow_slug
        workflow = self._config.workflow_of(slug) if slug is not None else None
        if slug is not None and workflow is None:
            raise BadRequest("workflow_slug", f"no workflow {slug!r}")
        if slug is None and request.trunk is None and request.agent is None:
            raise BadRequest("workflow_slug", "missing, needed unless trunk or agent is given")
        if request.record and not self._records:
            raise BadRequest("record", "recording is off: [recording] url is not configured")
        trunk = self._trunk_for(request.trunk or (workflow.trunk if workflow else ""))
        call_id = self._new_id()
        values = self._of_trunk(trunk)
        if request.ring_timeout is not None:
            values["ring_timeout"] = request.ring_timeout
        if request.max_duration is not None:
            values["max_duration"] = request.max_duration
        agent = request.agent if request.agent is not None else workflow.agent if workflow else ""
        plan = CallPlan(
            call_id=call_id,
            direction=Direction.OUTBOUND,
            trunk=trunk.name,
            profile=trunk.profile,
            room=request.room or f"call-{call_id}",
            created_at=self._wall(),
            phone_number=normalise(request.phone_number, trunk.country),
            trunk_number=normalise(request.caller_id or trunk.caller_id, trunk.country),
            # A person speaks on a passthrough call, and hears it ring.
            agent="" if request.passthrough else agent,
            early_media=request.early_media or request.passthrough,
            passthrough=request.passthrough,
            record=self._records if request.record is None else request.record,
            tenant=request.tenant,
            webhook_url=request.webhook_url,
            workflow_slug=slug,
            user_id=request.user_id,
            user_context=request.user_context or {},
            metadata={**(workflow.metadata if workflow else {}), **request.metadata},
            hostname=trunk.host,
            **values,
        )
        try:
            self._jobs.check_job(plan)
        except ValueError as failure:
            raise BadRequest("metadata", str(failure)) from failure
        return plan, trunk

    def _trunk_for(self, name: str) -> TrunkConfig:
        if name:
            trunk = self._config.trunk_named(name)
            if trunk is None:
                raise BadRequest("trunk", f"no trunk {name!r}")
            return trunk
        if len(self._config.trunk) != 1:
            count = len(self._config.trunk)
            raise BadRequest("trunk", f"missing, needed because there are {count} trunks")
        return self._config.trunk[0]

    def _of_trunk(self, trunk: TrunkConfig) -> dict[str, Any]:
        return {
            "ring_timeout": trunk.ring_timeout,
            "max_duration": trunk.max_duration,
            "agent_timeout": trunk.agent_timeout,
            "agent_gone_timeout": trunk.agent_gone_timeout,
            "media_timeout_initial": trunk.media_timeout_initial,
            "media_timeout": trunk.media_timeout,
            "hold_music": trunk.hold_music,
            "control": Control(trunk.control),
            "country": trunk.country,
            "transfer_allow": tuple(trunk.transfer_allow),
            "refer_in": trunk.refer_in,
            "controllers": frozenset(self._config.media.controllers),
            "carrier_headers": (*profile_of(trunk.profile).carrier_headers, *SAID_BY_ANY),
            "call_service": "exotel" if trunk.profile == "exotel" else None,
        }
