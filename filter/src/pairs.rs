//! The ABI's serialized header map: a count, the lengths of all names and values, then these with a NUL after each;
//! integers are 32 bits, little endian.

/// Header lines in wire order, repeated ones apart.
pub(crate) type Lines = Vec<(Vec<u8>, Vec<u8>)>;

/// Decodes a header map; `None` if it is not one.
pub(crate) fn decode(bytes: &[u8]) -> Option<Lines> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let (count, rest) = bytes.split_first_chunk::<4>()?;
    let count = u32::from_le_bytes(*count) as usize;
    let (lengths, mut rest) = rest.split_at_checked(count.checked_mul(8)?)?;
    // The lengths are there, so the capacity is bounded by what was received.
    let mut pairs = Vec::with_capacity(count);
    for chunk in lengths.chunks_exact(8) {
        let (name_len, value_len) = chunk.split_first_chunk::<4>()?;
        let name = text(&mut rest, u32::from_le_bytes(*name_len))?;
        let value = text(&mut rest, u32::from_le_bytes(*value_len.first_chunk()?))?;
        pairs.push((name.to_vec(), value.to_vec()));
    }
    Some(pairs)
}

fn text<'a>(rest: &mut &'a [u8], len: u32) -> Option<&'a [u8]> {
    let (text, after) = rest.split_at_checked(len as usize)?;
    *rest = after.get(1..)?;
    Some(text)
}

/// Encodes a header map; `None` if it is too large for the ABI.
pub(crate) fn encode(pairs: &[(Vec<u8>, Vec<u8>)]) -> Option<Vec<u8>> {
    if pairs.is_empty() {
        return Some(Vec::new());
    }
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&u32::try_from(pairs.len()).ok()?.to_le_bytes());
    for (name, value) in pairs {
        bytes.extend_from_slice(&u32::try_from(name.len()).ok()?.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(value.len()).ok()?.to_le_bytes());
    }
    for (name, value) in pairs {
        for text in [name, value] {
            bytes.extend_from_slice(text);
            bytes.push(0);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_maps_survive_the_round_trip() {
        let pairs = vec![
            (b":path".to_vec(), b"/".to_vec()),
            (b"a".to_vec(), b"\xff\xfe".to_vec()),
            (b"a".to_vec(), Vec::new()),
        ];
        assert_eq!(decode(&encode(&pairs).unwrap()), Some(pairs));
        assert_eq!(decode(&encode(&[]).unwrap()), Some(Vec::new()));
    }

    #[test]
    fn a_truncated_map_is_no_map() {
        let whole = encode(&[(b"name".to_vec(), b"value".to_vec()), (b"b".to_vec(), b"2".to_vec())]).unwrap();
        for end in 1..whole.len() {
            assert_eq!(decode(&whole[..end]), None, "{end} of {} bytes", whole.len());
        }
    }

    #[test]
    fn a_count_beyond_the_bytes_is_no_map() {
        assert_eq!(decode(&[0xff; 64]), None);
    }
}
