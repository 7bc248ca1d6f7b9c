"""The whole configuration."""

from __future__ import annotations

import re
from typing import Any, Final

from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from bridge.config.secret_files import ENV_PREFIX, SECRETS, tables
from bridge.config.sections import (
    PLANS,
    CaptureConfig,
    DaemonConfig,
    HttpConfig,
    LiveKitConfig,
    LogConfig,
    MediaConfig,
    PlanConfig,
    PrivacyConfig,
    QueueConfig,
    RecordingConfig,
    SessionsConfig,
    SipConfig,
    StoreConfig,
    WebhookConfig,
)
from bridge.config.trunk import RouteConfig, TrunkConfig, WorkflowConfig

ARRAYS: Final = ("plan", "workflow", "trunk", "route")
"""Sections that are arrays of tables."""


class Config(BaseSettings):
    """The whole configuration, checked and immutable."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        validate_default=True,
    )

    livekit: LiveKitConfig = LiveKitConfig()
    sip: SipConfig = SipConfig()
    media: MediaConfig = MediaConfig()
    http: HttpConfig = HttpConfig()
    plan: list[PlanConfig] = []
    store: StoreConfig = StoreConfig()
    daemon: DaemonConfig = DaemonConfig()
    log: LogConfig = LogConfig()
    capture: CaptureConfig = CaptureConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    webhook: WebhookConfig = WebhookConfig()
    sessions: SessionsConfig = SessionsConfig()
    queue: QueueConfig = QueueConfig()
    recording: RecordingConfig = RecordingConfig()
    workflow: list[WorkflowConfig] = []
    trunk: list[TrunkConfig] = []
    route: list[RouteConfig] = []

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file; its ``_FILE`` variables have been read by then."""

        def environment() -> dict[str, Any]:
            values = env_settings()
            for name in ARRAYS:  # a variable for a part of one is an error told elsewhere
                if isinstance(values.get(name), dict):
                    del values[name]
            for section, key in SECRETS:
                for _, table in tables(values, section):
                    table.pop(f"{key}_file", None)
            return values

        return environment, init_settings  # type: ignore[return-value]

    def trunk_named(self, name: str) -> TrunkConfig | None:
        """Return the trunk called *name*, or None."""
        return next((trunk for trunk in self.trunk if trunk.name == name), None)

    def workflow_of(self, slug: str) -> WorkflowConfig | None:
        """Return the workflow with *slug*, or None."""
        return next((workflow for workflow in self.workflow if workflow.slug == slug), None)

    def plan_named(self, name: str) -> PlanConfig | None:
        """Return the plan called *name*, the file's before ours, or None."""
        return next((plan for plan in (*self.plan, *PLANS) if plan.name == name), None)

    def dump(self) -> dict[str, Any]:
        """Return the effective settings as plain data, secrets masked."""
        dumped = self.model_dump(mode="json", by_alias=True)
        dumped["store"]["url"] = re.sub(r"(//[^:/@]+:)[^@]+@", r"\1**********@", self.store.url)
        return dumped
