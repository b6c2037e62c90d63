//! Header maps with the rules of Envoy's `HeaderMapImpl`, and their form in the ABI.

/// Largest serialised map that Envoy reads (`PROXY_WASM_HOST_PAIRS_MAX_BYTES`), in bytes. A larger
/// one reads as an empty map.
const MAX_SERIALIZED_BYTES: usize = 1024 * 1024;

/// Most pairs that Envoy reads (`PROXY_WASM_HOST_PAIRS_MAX_COUNT`). More read as an empty map.
const MAX_PAIRS: usize = 1024;

/// Headers in the order in which they arrived. Names are lower case; values are bytes, because
/// Envoy lets bytes above 0x7f through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderMap(Vec<(String, Vec<u8>)>);

impl HeaderMap {
    /// The first value of a header as text; bytes that are not UTF-8 show as U+FFFD.
    pub fn get(&self, name: &str) -> Option<String> {
        self.get_bytes(name).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// The first value of a header. Envoy shows a filter no other.
    pub fn get_bytes(&self, name: &str) -> Option<&[u8]> {
        let name = name.to_ascii_lowercase();
        self.0.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_slice())
    }

    /// How many headers there are.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no header.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a header after those that are there.
    pub fn add(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.0.push((name.to_ascii_lowercase(), value.as_ref().to_vec()));
    }

    /// Removes every header of that name, then adds this one.
    pub fn replace(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.remove(name);
        self.add(name, value);
    }

    /// Removes every header of that name.
    pub fn remove(&mut self, name: &str) {
        let name = name.to_ascii_lowercase();
        self.0.retain(|(key, _)| *key != name);
    }

    /// Every header, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// The map as the ABI passes it: a count, the lengths of all names and values, then all names
    /// and values, each ended by a zero byte. Numbers are 32 bits, little-endian.
    pub(crate) fn serialize(&self) -> Vec<u8> {
        let mut bytes = to_u32(self.0.len()).to_le_bytes().to_vec();
        for (name, value) in &self.0 {
            bytes.extend(to_u32(name.len()).to_le_bytes());
            bytes.extend(to_u32(value.len()).to_le_bytes());
        }
        for (name, value) in &self.0 {
            bytes.extend(name.as_bytes());
            bytes.push(0);
            bytes.extend(value);
            bytes.push(0);
        }
        bytes
    }

    /// Reads what [`serialize`](Self::serialize) writes. Anything malformed or over a limit is an
    /// empty map: so does Envoy.
    pub(crate) fn deserialize(bytes: &[u8]) -> Self {
        if bytes.len() > MAX_SERIALIZED_BYTES {
            return Self::default();
        }
        Self::parse(bytes).unwrap_or_default()
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let pairs = take_u32(&mut rest)?;
        if pairs > MAX_PAIRS {
            return None;
        }
        let lengths: Vec<(usize, usize)> = (0..pairs)
            .map(|_| Some((take_u32(&mut rest)?, take_u32(&mut rest)?)))
            .collect::<Option<_>>()?;
        let mut map = Self::default();
        for (name_length, value_length) in lengths {
            let name = take_terminated(&mut rest, name_length)?;
            let value = take_terminated(&mut rest, value_length)?;
            map.add(&String::from_utf8_lossy(name), value);
        }
        rest.is_empty().then_some(map)
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> FromIterator<(N, V)> for HeaderMap {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(headers: I) -> Self {
        let mut map = Self::default();
        for (name, value) in headers {
            map.add(name.as_ref(), value);
        }
        map
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>, const LEN: usize> From<[(N, V); LEN]> for HeaderMap {
    fn from(headers: [(N, V); LEN]) -> Self {
        headers.into_iter().collect()
    }
}

fn to_u32(length: usize) -> u32 {
    u32::try_from(length).expect("a header map is smaller than 4 GiB")
}

fn take_u32(rest: &mut &[u8]) -> Option<usize> {
    let (number, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    usize::try_from(u32::from_le_bytes(*number)).ok()
}

fn take_terminated<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (text, after) = rest.split_at_checked(length)?;
    *rest = after.strip_prefix(&[0])?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> HeaderMap {
        HeaderMap::from([(":method", "GET"), ("Cookie", "a=1"), ("cookie", "b=2")])
    }

    #[test]
    fn names_are_lower_case_and_the_first_value_is_the_one_seen() {
        assert_eq!(sample().get("COOKIE").as_deref(), Some("a=1"));
        assert_eq!(sample().get("origin"), None);
    }

    #[test]
    fn replace_leaves_one_value_and_remove_none() {
        let mut map = sample();
        map.replace("cookie", "c=3");
        assert_eq!(map.len(), 2);
        assert_eq!(map.get("cookie").as_deref(), Some("c=3"));
        map.remove("Cookie");
        assert_eq!(map.get("cookie"), None);
    }

    #[test]
    fn a_map_survives_the_abi() {
        let mut map = sample();
        map.add("empty", "");
        map.add("bytes", [0xff, 0x00, 0x80]);
        assert_eq!(HeaderMap::deserialize(&map.serialize()), map);
    }

    #[test]
    fn the_serialised_form_is_that_of_the_abi() {
        let bytes = HeaderMap::from([("a", "bc")]).serialize();
        assert_eq!(bytes, b"\x01\0\0\0\x01\0\0\0\x02\0\0\0a\0bc\0");
    }

    #[test]
    fn a_malformed_map_is_an_empty_one() {
        let good = sample().serialize();
        for length in 0..good.len() {
            assert!(HeaderMap::deserialize(&good[..length]).is_empty());
        }
        let trailing = [good.as_slice(), b"x"].concat();
        assert!(HeaderMap::deserialize(&trailing).is_empty());
        let too_many: HeaderMap = (0..=MAX_PAIRS).map(|n| (n.to_string(), "")).collect();
        assert!(HeaderMap::deserialize(&too_many.serialize()).is_empty());
        let too_large = HeaderMap::from([("a", vec![b'x'; MAX_SERIALIZED_BYTES])]);
        assert!(HeaderMap::deserialize(&too_large.serialize()).is_empty());
    }
}
