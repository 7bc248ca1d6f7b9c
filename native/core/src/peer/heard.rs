//! Which remote streams were heard, and in which section: an agent that publishes again and
//! again leaves nothing behind.

use str0m::media::Mid;
use str0m::rtp::Ssrc;

/// Streams at once; the oldest goes.
const MAX_SOURCES: usize = 32;

/// One stream for each section.
#[derive(Debug, Default)]
pub struct Heard {
    sources: Vec<(Ssrc, Mid)>,
}

impl Heard {
    pub fn knows(&self, ssrc: Ssrc) -> bool {
        self.sources.iter().any(|(known, _)| *known == ssrc)
    }

    pub fn sources(&self) -> impl Iterator<Item = u32> {
        self.sources.iter().map(|(ssrc, _)| **ssrc)
    }

    /// Stream *ssrc* is heard in section *mid*. Returns those that it replaces.
    pub fn add(&mut self, ssrc: Ssrc, mid: Mid) -> Vec<u32> {
        let mut replaced = self.forget_section(mid);
        if self.sources.len() >= MAX_SOURCES {
            replaced.push(*self.sources.remove(0).0);
        }
        self.sources.push((ssrc, mid));
        replaced
    }

    /// Section *mid* receives no more. Returns what was heard in it.
    pub fn forget_section(&mut self, mid: Mid) -> Vec<u32> {
        let gone = self.sources.iter().filter(|(_, known)| *known == mid).map(|(ssrc, _)| **ssrc);
        let gone: Vec<u32> = gone.collect();
        self.sources.retain(|(_, known)| *known != mid);
        gone
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn mid(name: &str) -> Mid {
        Mid::from(name)
    }

    #[test]
    fn a_new_stream_in_a_section_replaces_the_old_one() {
        let mut heard = Heard::default();
        assert!(heard.add(1.into(), mid("a")).is_empty());
        assert!(heard.add(2.into(), mid("b")).is_empty());
        assert_eq!(heard.add(3.into(), mid("a")), [1]);
        assert_eq!(heard.forget_section(mid("a")), [3]);
        assert_eq!(heard.sources().collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn streams_do_not_pile_up() {
        let mut heard = Heard::default();
        let replaced = (0..100).map(|n| heard.add(n.into(), mid(&n.to_string())).len());
        assert_eq!(replaced.sum::<usize>(), 100 - MAX_SOURCES);
    }
}
