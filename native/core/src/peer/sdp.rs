//! What str0m leaves to do in its session descriptions.

use crate::types::Law;

/// The payload type of a law (RFC 3551 6).
pub fn payload_type(law: Law) -> u8 {
    match law {
        Law::Mu => 0,
        Law::A => 8,
    }
}

/// Leave *law* as the only format of the sections that send. str0m offers every codec in every
/// section; a server would bind Opus to a section that only ever carries G.711.
pub fn send_only(sdp: &str, law: Law) -> String {
    let kept = payload_type(law).to_string();
    let mut out = String::with_capacity(sdp.len());
    for section in sections(sdp) {
        if section.starts_with("m=audio") && has_line(section, "a=sendonly") {
            for line in section.lines() {
                if let Some(line) = narrow(line, &kept) {
                    out.push_str(&line);
                    out.push_str("\r\n");
                }
            }
        } else {
            out.push_str(section);
        }
    }
    out
}

/// The session part and each media section, with their line ends.
fn sections(sdp: &str) -> impl Iterator<Item = &str> {
    let mut starts: Vec<usize> = sdp.match_indices("\nm=").map(|(at, _)| at + 1).collect();
    starts.insert(0, 0);
    let ends: Vec<usize> = starts.iter().skip(1).copied().chain([sdp.len()]).collect();
    starts.into_iter().zip(ends).map(|(start, end)| &sdp[start..end])
}

fn has_line(section: &str, wanted: &str) -> bool {
    section.lines().any(|line| line == wanted)
}

/// *line* as it stands where *kept* is the only payload type; `None`: it goes.
fn narrow(line: &str, kept: &str) -> Option<String> {
    if line.starts_with("m=audio") {
        let mut words: Vec<&str> = line.splitn(4, ' ').take(3).collect();
        words.push(kept);
        return Some(words.join(" "));
    }
    let of_format =
        ["a=rtpmap:", "a=fmtp:", "a=rtcp-fb:"].iter().find_map(|p| line.strip_prefix(p));
    match of_format {
        Some(rest) if rest.split(' ').next() != Some(kept) => None,
        _ => Some(line.to_string()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const OFFER: &str = "v=0\r\ns=-\r\na=group:BUNDLE a b\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111 0 8\r\na=mid:a\r\na=recvonly\r\na=rtpmap:111 opus/48000/2\r\n\
        a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111 0 8\r\na=mid:b\r\na=sendonly\r\na=rtpmap:111 opus/48000/2\r\n\
        a=rtcp-fb:111 transport-cc\r\na=fmtp:111 minptime=10\r\na=rtpmap:0 PCMU/8000\r\n\
        a=rtpmap:8 PCMA/8000\r\na=ssrc:1 cname:x\r\n";

    #[test]
    fn the_section_that_sends_has_the_law_only_and_the_others_stay() {
        let sdp = send_only(OFFER, Law::A);
        let (before, sending) = sdp.split_at(sdp.rfind("m=audio").unwrap());
        assert_eq!(before, &OFFER[..before.len()]);
        assert_eq!(
            sending,
            "m=audio 9 UDP/TLS/RTP/SAVPF 8\r\na=mid:b\r\na=sendonly\r\na=rtpmap:8 PCMA/8000\r\n\
             a=ssrc:1 cname:x\r\n"
        );
    }

    #[test]
    fn what_sends_nothing_is_left_alone() {
        let receiving = &OFFER[..OFFER.rfind("m=audio").unwrap()];
        assert_eq!(send_only(receiving, Law::Mu), receiving);
    }
}
