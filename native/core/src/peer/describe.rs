//! Session descriptions of a transport: what it offers, and what the server says (RFC 8829).
//!
//! One offer is under way at a time; what is wanted meanwhile is offered after it. Sections that
//! the server left idle are offered again before there are new ones.

use super::numbering::Numbering;
use super::{MAX_RECEIVERS, Options, Output, Peer, SETUP_TIME, State, Transmit, Wanted};
use super::{channels, first_sequence, sdp};
use std::time::Instant;
use str0m::Candidate;
use str0m::change::{SdpAnswer, SdpOffer};
use str0m::media::{Direction, MediaKind, Mid};

impl Peer {
    pub(super) fn first_offer(&mut self, options: &Options, out: &mut Vec<Output>) {
        let mut api = self.rtc.sdp_api();
        for configuration in channels::configurations() {
            api.add_channel_with_config(configuration);
        }
        // Before the section that sends: the server puts its tracks on the first that fits.
        let receivers = options.receivers.min(MAX_RECEIVERS);
        for _ in 0..receivers {
            let mid = api.add_media(MediaKind::Audio, Direction::RecvOnly, None, None, None);
            self.receivers.push(mid);
        }
        if let Some(track) = &options.track {
            let (stream, track) = (Some("-".to_string()), Some(track.clone()));
            let mid = api.add_media(MediaKind::Audio, Direction::SendOnly, stream, track, None);
            let numbering = Numbering::new(first_sequence(self.local));
            self.transmit = Some(Transmit { mid, law: options.law, numbering });
        }
        if let Some((offer, pending)) = api.apply() {
            let wanted = Wanted { receivers: Some(receivers), restart: false };
            self.pending = Some((pending, wanted));
            out.push(Output::Offer(self.narrowed(&offer.to_sdp_string())));
        }
    }

    /// Take the server's answer to the offer that waits for one.
    pub fn answer(&mut self, sdp: &str, now: Instant, out: &mut Vec<Output>) {
        // Answers to an offer that was overtaken by the server's own are of no use.
        let Some((pending, _)) = self.pending.take() else { return };
        let answer = SdpAnswer::from_sdp_string(sdp).map_err(|_| ());
        let taken = answer
            .and_then(|answer| self.rtc.sdp_api().accept_answer(pending, answer).map_err(|_| ()));
        if taken.is_err() {
            return self.end("sdp", out);
        }
        self.described(now);
        self.offer(out);
        self.tick(now, out);
    }

    /// Take the server's offer; makes an answer.
    pub fn take_offer(&mut self, sdp: &str, now: Instant, out: &mut Vec<Output>) {
        // Our own offer is rolled back by it (RFC 8829 4.1.10.2) and made again afterwards.
        if let Some((_, wanted)) = self.pending.take() {
            self.wanted.restart |= wanted.restart;
            self.wanted.receivers = wanted.receivers.or(self.wanted.receivers);
        }
        let offer = SdpOffer::from_sdp_string(sdp).map_err(|_| ());
        let answer = offer.and_then(|offer| self.rtc.sdp_api().accept_offer(offer).map_err(|_| ()));
        let Ok(answer) = answer else { return self.end("sdp", out) };
        out.push(Output::Answer(self.narrowed(&answer.to_sdp_string())));
        // Sections of the offer that was rolled back never came to be.
        let rtc = &self.rtc;
        self.receivers.retain(|mid| rtc.media(*mid).is_some());
        self.described(now);
        self.offer(out);
        self.tick(now, out);
    }

    /// Take a candidate of the server; one that cannot be used is no error.
    pub fn candidate(&mut self, text: &str, now: Instant, out: &mut Vec<Output>) {
        if let Ok(candidate) = Candidate::from_sdp_string(text) {
            self.rtc.add_remote_candidate(candidate);
            self.tick(now, out);
        }
    }

    /// Offer again so that *count* more sections can receive; also for 0.
    pub fn add_receivers(&mut self, count: u32, now: Instant, out: &mut Vec<Output>) {
        let count = self.wanted.receivers.unwrap_or(0).saturating_add(count);
        self.wanted.receivers = Some(count.min(MAX_RECEIVERS));
        self.offer(out);
        self.tick(now, out);
    }

    /// Offer again with new ICE credentials, on the same socket and keys.
    pub fn restart_ice(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.wanted.restart = true;
        self.offer(out);
        self.tick(now, out);
    }

    /// Make the offer that is wanted, unless one is under way.
    fn offer(&mut self, out: &mut Vec<Output>) {
        let wanted = self.wanted;
        if self.pending.is_some() || (wanted.receivers.is_none() && !wanted.restart) {
            return;
        }
        let mut idle = self.idle_receivers();
        let mut api = self.rtc.sdp_api();
        if let Some(count) = wanted.receivers {
            // Sections that the server left idle are offered again before there are new ones.
            for mid in &idle {
                api.set_direction(*mid, Direction::RecvOnly);
            }
            let missing = count.saturating_sub(idle.len() as u32);
            for _ in 0..missing {
                if self.receivers.len() < MAX_RECEIVERS as usize {
                    let kind = MediaKind::Audio;
                    let mid = api.add_media(kind, Direction::RecvOnly, None, None, None);
                    self.receivers.push(mid);
                    idle.push(mid);
                }
            }
            // str0m makes no offer without a change, and the server waits for one.
            if let (true, Some(mid)) = (idle.is_empty(), self.receivers.first()) {
                api.set_direction(*mid, Direction::Inactive);
                api.set_direction(*mid, Direction::RecvOnly);
            }
        }
        if wanted.restart {
            api.ice_restart(true);
        }
        self.wanted = Wanted::default();
        if let Some((offer, pending)) = api.apply() {
            self.pending = Some((pending, wanted));
            out.push(Output::Offer(self.narrowed(&offer.to_sdp_string())));
        }
    }

    fn idle_receivers(&self) -> Vec<Mid> {
        let idle = |mid: &&Mid| {
            self.rtc
                .media(**mid)
                .is_some_and(|media| !media.disabled() && media.direction() == Direction::Inactive)
        };
        self.receivers.iter().filter(idle).copied().collect()
    }

    fn narrowed(&self, sdp: &str) -> String {
        match &self.transmit {
            Some(transmit) => sdp::send_only(sdp, transmit.law),
            None => sdp.to_string(),
        }
    }

    fn described(&mut self, now: Instant) {
        if self.state == State::New(None) {
            self.state = State::New(Some(now + SETUP_TIME));
        }
    }
}
