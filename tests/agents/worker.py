"""The worker that test agents are served by: on loopback, never too busy, and it says so."""

from __future__ import annotations

from livekit.agents import AgentServer, JobExecutorType

from tests.agents.lines import note


def worker() -> AgentServer:
    """Return a worker whose jobs are threads; it notes ``ready`` once it takes any."""
    server = AgentServer(
        job_executor_type=JobExecutorType.THREAD,
        num_idle_processes=1,
        host="127.0.0.1",
        port=0,
        log_level="WARN",
        load_fnc=lambda: 0.0,
    )
    server.on("worker_registered", lambda *_: note("ready"))
    return server
