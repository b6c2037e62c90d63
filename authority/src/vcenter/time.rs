//! Times as vSphere writes them: `xsd:dateTime`, in UTC or with an offset.

use std::time::{Duration, SystemTime};

/// Reads a time. `None` for one without a time zone, before 1970, or in another form.
pub(super) fn parse(text: &str) -> Option<SystemTime> {
    let text = text.trim();
    // RFC 3339 in UTC is what the library reads; XML's offset is `±hh:mm`.
    let Some(at) = text.len().checked_sub(6).filter(|&at| is_offset(text.as_bytes(), at)) else {
        return humantime::parse_rfc3339(text).ok();
    };
    let (local, offset) = text.split_at(at);
    let local = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
    let number = |range: std::ops::Range<usize>| offset.get(range)?.parse::<u64>().ok();
    let (hours, minutes) = (number(1..3)?, number(4..6)?);
    // XML Schema: 14 hours at most.
    if hours > 14 || minutes > 59 {
        return None;
    }
    let offset_time = Duration::from_secs((hours * 60 + minutes) * 60);
    let utc = match offset.starts_with('+') {
        true => local.checked_sub(offset_time)?,
        false => local.checked_add(offset_time)?,
    };
    (utc >= SystemTime::UNIX_EPOCH).then_some(utc)
}

fn is_offset(text: &[u8], at: usize) -> bool {
    matches!(text.get(at), Some(b'+' | b'-')) && text.get(at + 3) == Some(&b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_in_utc_whatever_its_offset() {
        for (text, utc) in [
            ("2026-11-27T04:30:00Z", Some("2026-11-27T04:30:00Z")),
            (" 2026-11-27T04:30:00.123456Z ", Some("2026-11-27T04:30:00.123456Z")),
            ("2026-11-27T04:30:00+02:00", Some("2026-11-27T02:30:00Z")),
            ("2026-11-26T23:00:00.25-05:30", Some("2026-11-27T04:30:00.25Z")),
            ("1970-01-01T01:00:00+01:00", Some("1970-01-01T00:00:00Z")),
            ("1970-01-01T00:00:00+01:00", None),
            ("2026-11-27T04:30:00+24:00", None),
            ("2026-11-27T04:30:00+1:000", None),
            ("2026-11-27T04:30:00", None),
            ("2026-11-27", None),
            ("-05:30", None),
            ("äöü-05:30", None),
            ("+é:00", None),
            ("", None),
        ] {
            let utc = utc.map(|utc| humantime::parse_rfc3339(utc).unwrap());
            assert_eq!(parse(text), utc, "{text}");
        }
    }
}
