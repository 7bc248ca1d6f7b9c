//! Files of packets: each a length of two bytes, big-endian, and its bytes.

use std::path::Path;

/// Read all packets of a file.
pub fn read(path: &Path) -> std::io::Result<Vec<Vec<u8>>> {
    Ok(split(&std::fs::read(path)?))
}

fn split(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut rest = bytes;
    while let [high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if after.len() < length {
            break;
        }
        found.push(after[..length].to_vec());
        rest = &after[length..];
    }
    found
}

/// Return the file of `packets`.
pub fn join(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for packet in packets {
        out.extend_from_slice(&(packet.len() as u16).to_be_bytes());
        out.extend_from_slice(packet);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_back_and_a_torn_end_is_left() {
        let packets = vec![vec![1, 2, 3], vec![], vec![9; 300]];
        let mut file = join(&packets);
        assert_eq!(split(&file), packets);
        file.extend_from_slice(&[0, 9, 1]);
        assert_eq!(split(&file), packets);
    }
}
