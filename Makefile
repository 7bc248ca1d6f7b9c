.DEFAULT_GOAL := help
.PHONY: help setup run test check lint types arrows native unit system bench fuzz soak kill install uninstall image clean

PY := .venv/bin/python
# Whatever keeps real time runs alone on the machine, and where WebRTC finds an interface.
ALONE := bash scripts/alone.sh
AGAIN := bash scripts/again.sh

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  make \1\t/' | expand -t 16

setup:  ## install everything into .venv/ and .cache/
	@bash scripts/setup.sh

run: setup  ## two phone calls through the bridge, then stay up (ONCE=1: end after them)
	@$(ALONE) .venv/bin/trunkbridge demo $(if $(ONCE),--once)

test: setup check unit system  ## everything

check: lint types arrows native  ## format, lint, types and import arrows, of the media core as well

lint:  ## ruff
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .

types:  ## mypy --strict
	@.venv/bin/mypy

arrows:  ## import-linter: the arrows of the house
	@.venv/bin/lint-imports --no-logo

native:  ## the media core in Rust: format, clippy, its own tests
	@bash scripts/native.sh check

unit:  ## pure code and loopback sockets, in parallel
	@$(AGAIN) $(PY) -m pytest -m unit -n 2 -q

# Tests that mostly wait (for a server to come back, a browser, an installation, a caller to have
# spoken): two at a time.
PATIENT := tests/system/room $(patsubst %,tests/system/test_%.py,room_away room_ways room_worker \
	other_agents day_in_the_life cli_live console streams embedded metrics service between \
	linphone pjsua sipp_calls sipp_rows session_timers engine_choice digest register transfer \
	reliable tls_calls srtp ipv6 baresip agent_kit follow api sessions transcripts webhooks queue \
	fleet passthrough older store_away answering controls in_the_room sipp room_peers)
SYSTEM := $(PY) -m pytest -m system -q --timeout 300 --durations=10

system:  ## the real livekit-server and real SIP peers
	@$(ALONE) $(AGAIN) $(SYSTEM) $(PATIENT:%=--ignore=%)
	@$(ALONE) $(AGAIN) $(SYSTEM) -n 2 --dist loadfile $(PATIENT)

bench: setup  ## the figures of the closing notes, interleaved with a peer
	@$(ALONE) $(PY) -m bench

fuzz: setup  ## coverage-guided fuzzing of framing, headers, SDP, RTP and the media core (MINUTES=1 for each core)
	@nice $(PY) -m tests.fuzz --minutes $(or $(MINUTES),1)
	@bash scripts/fuzz-native.sh $(or $(MINUTES),1)

soak: setup  ## calls, holds and room changes for HOURS=0.17, then everything back where it began
	@$(ALONE) $(PY) -m tests.soak --hours $(or $(HOURS),0.17)

kill: setup  ## kill -9 at N=200 random points under load on SQLite and PostgreSQL, then nothing is missing
	@$(ALONE) $(PY) -m tests.kill --kills $(or $(N),200)

install:  ## install as a service: user, /opt/trunkbridge, /etc/trunkbridge, systemd unit (as root)
	@bash scripts/install.sh

uninstall:  ## remove the service, keep configuration and records (PURGE=1: those too)
	@bash scripts/uninstall.sh

image:  ## a container image of the daemon, by docker, podman or buildah
	@$(or $(firstword $(shell command -v docker podman buildah)),docker) build -f deploy/Containerfile -t trunkbridge .

clean:  ## remove what was set up
	rm -rf .venv .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
