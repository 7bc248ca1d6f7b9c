//! Redundant audio (RFC 2198): a packet that carries copies of those before it.

/// Redundant blocks that are taken; libwebrtc sends up to 9, LiveKit's server 2.
pub const MAX_BLOCKS: usize = 9;

/// A copy of an earlier packet's payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block<'a> {
    /// How much older than the packet it is, in units of the RTP clock; not 0.
    pub offset: u32,
    /// Not empty.
    pub payload: &'a [u8],
}

/// The payload of a packet, unpacked.
#[derive(Debug, PartialEq, Eq)]
pub struct Red<'a> {
    pub primary: &'a [u8],
    blocks: [Block<'a>; MAX_BLOCKS],
    count: usize,
}

impl<'a> Red<'a> {
    /// Unpack *payload*, whose primary block is of *payload_type*; `None`: it is malformed, or
    /// of something else. Redundant blocks of another type are left out.
    pub fn parse(payload: &'a [u8], payload_type: u8) -> Option<Red<'a>> {
        let mut red = Red { primary: &[], blocks: [Block::default(); MAX_BLOCKS], count: 0 };
        let headers = payload.chunks(4).take_while(|h| h.first().is_some_and(|f| f & 0x80 != 0));
        let blocks = headers.count();
        let (heads, rest) = payload.split_at_checked(4 * blocks)?;
        // The last header: one octet, its F bit clear.
        let (last, mut data) = rest.split_first()?;
        if *last != payload_type {
            return None;
        }
        for head in heads.chunks_exact(4) {
            let head = u32::from_be_bytes(head.try_into().ok()?);
            let (offset, length) = (head >> 10 & 0x3fff, head & 0x3ff);
            let (block, after) = data.split_at_checked(length as usize)?;
            data = after;
            let is_copy = (head >> 24 & 0x7f) as u8 == payload_type && offset > 0;
            if is_copy
                && !block.is_empty()
                && let Some(free) = red.blocks.get_mut(red.count)
            {
                *free = Block { offset, payload: block };
                red.count += 1;
            }
        }
        red.primary = data;
        Some(red)
    }

    /// The redundant blocks, as they stand in the packet: the oldest first.
    pub fn blocks(&self) -> &[Block<'a>] {
        self.blocks.get(..self.count).unwrap_or_default()
    }
}

/// Pack *primary* with *blocks*, all of *payload_type*: for tests.
#[cfg(test)]
pub fn pack(blocks: &[Block], primary: &[u8], payload_type: u8) -> Vec<u8> {
    let mut out = vec![];
    for block in blocks {
        let head = u32::from(0x80 | payload_type) << 24 | block.offset << 10;
        out.extend_from_slice(&(head | block.payload.len() as u32).to_be_bytes());
    }
    out.push(payload_type);
    blocks.iter().for_each(|block| out.extend_from_slice(block.payload));
    out.extend_from_slice(primary);
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const OPUS: u8 = 111;

    fn block(offset: u32, payload: &[u8]) -> Block<'_> {
        Block { offset, payload }
    }

    #[test]
    fn what_was_packed_comes_out_again() {
        for blocks in [vec![], vec![block(960, b"old")], vec![block(1920, b"a"), block(960, b"bc")]]
        {
            let packed = pack(&blocks, b"new", OPUS);
            let red = Red::parse(&packed, OPUS).unwrap();
            assert_eq!((red.primary, red.blocks()), (&b"new"[..], &blocks[..]));
        }
    }

    #[test]
    fn the_octets_are_those_of_the_rfc() {
        // RFC 2198 3: F, block PT, timestamp offset (14 bits), block length (10 bits).
        let packet = [0xef, 0x0f, 0x00, 0x02, 0x6f, 1, 2, 3];
        let red = Red::parse(&packet, OPUS).unwrap();
        assert_eq!((red.primary, red.blocks()), (&[3u8][..], &[block(960, &[1, 2])][..]));
    }

    #[test]
    fn a_primary_of_another_type_is_refused_and_other_copies_are_left_out() {
        let mut packed = pack(&[block(960, b"old")], b"new", OPUS);
        assert_eq!(Red::parse(&packed, 0), None);
        packed[0] = 0x80; // PCMU
        let red = Red::parse(&packed, OPUS).unwrap();
        assert_eq!((red.primary, red.blocks()), (&b"new"[..], &[][..]));
    }

    #[test]
    fn copies_of_no_audio_or_of_no_other_time_are_left_out() {
        let packed = pack(&[block(0, b"old"), block(960, b"")], b"new", OPUS);
        assert_eq!(Red::parse(&packed, OPUS).unwrap().blocks(), []);
    }

    #[test]
    fn more_copies_than_are_taken_do_no_harm() {
        let packed = pack(&[block(960, b"x"); 40], b"new", OPUS);
        let red = Red::parse(&packed, OPUS).unwrap();
        assert_eq!((red.primary, red.blocks().len()), (&b"new"[..], MAX_BLOCKS));
    }

    #[test]
    fn what_is_cut_short_or_made_up_is_refused_or_lies_within() {
        let packed = pack(&[block(1920, b"older"), block(960, b"old")], b"", OPUS);
        for length in 0..packed.len() {
            assert_eq!(Red::parse(&packed[..length], OPUS), None, "{length}");
        }
        let mut random = 1u64;
        for _ in 0..100_000 {
            let mut junk = [0u8; 64];
            for octet in &mut junk {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *octet = match random >> 61 {
                    0 => OPUS,
                    1 => 0x80 | OPUS,
                    2 => 0,
                    _ => (random >> 40) as u8,
                };
            }
            let junk = &junk[..(random >> 32) as usize % 65];
            if let Some(red) = Red::parse(junk, OPUS) {
                let of_blocks: usize = red.blocks().iter().map(|b| b.payload.len() + 4).sum();
                assert!(of_blocks + red.primary.len() < junk.len());
            }
        }
    }
}
