//! The ABI's form of a header map: a count, the lengths of each name and value, then the texts, each ended by
//! a zero. Numbers are 32 bits, little-endian.

/// Reads a map. Replaces bytes that are not UTF-8 by replacement characters. Returns `None` if it is malformed.
pub(super) fn read_pairs(bytes: &[u8]) -> Option<Vec<(String, String)>> {
    let (count, rest) = bytes.split_first_chunk::<4>()?;
    let count = u32::from_le_bytes(*count) as usize;
    let (lengths, mut texts) = rest.split_at_checked(count.checked_mul(8)?)?;
    let mut text = |len: &[u8; 4]| {
        let (text, rest) = texts.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        texts = rest.split_first()?.1;
        Some(String::from_utf8_lossy(text).into_owned())
    };
    let (lengths, _) = lengths.as_chunks::<4>();
    let (pairs, _) = lengths.as_chunks::<2>();
    pairs.iter().map(|[name, value]| Some((text(name)?, text(value)?))).collect()
}

/// Writes a map.
pub(super) fn write_pairs(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&(pairs.len() as u32).to_le_bytes());
    for (name, value) in pairs {
        bytes.extend_from_slice(&(name.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
    }
    for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(0);
    }
    bytes
}
