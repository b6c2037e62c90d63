//! The command `sessions`: lists the consoles that a running authority knows to be open, and ends one.

use crate::console_command::{Authority, ConsoleCommandError, PRINTED_LIMIT};
use crate::text::printable_within;
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::time::{Duration, SystemTime};
use uuid::Uuid;

/// Most sessions that are listed: as many as an authority knows at most.
const MOST_SESSIONS: usize = 100_000;

/// Which sessions to list: the parameters of `GET /v1/sessions`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SessionFilter {
    /// Instance UUID or exact name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Identifier or user name of the caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// Identifier of the project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// IP address of the browser.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
}

/// A session as the API has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ListedSession(Map<String, Value>);

#[derive(Deserialize)]
struct Page {
    sessions: Vec<ListedSession>,
    #[serde(default)]
    sessions_links: Vec<Value>,
}

impl Authority {
    /// The sessions that match, oldest first.
    pub async fn sessions(
        &self,
        filter: &SessionFilter,
    ) -> Result<Vec<ListedSession>, ConsoleCommandError> {
        let mut all: Vec<ListedSession> = Vec::new();
        loop {
            let mut request = self.http.get(self.at("v1/sessions")).query(filter);
            if let Some(last) = all.last() {
                request = request.query(&[("marker", last.text("id"))]);
            }
            let Page { sessions, sessions_links } = self.send(request).await?;
            let is_last = sessions.is_empty() || sessions_links.is_empty();
            all.extend(sessions);
            if is_last || all.len() > MOST_SESSIONS {
                break;
            }
        }
        all.sort_by(|a, b| {
            (a.text("opened_at"), a.text("id")).cmp(&(b.text("opened_at"), b.text("id")))
        });
        Ok(all)
    }

    /// Ends the session whose identifier is or begins like this, and tells what became of it.
    pub async fn end_session(
        &self,
        session: &str,
        reason: Option<&str>,
    ) -> Result<String, ConsoleCommandError> {
        let id = match session.parse::<Uuid>() {
            Ok(id) => id.to_string(),
            Err(_) => self.session_that_begins(&session.to_lowercase()).await?,
        };
        let request = self.http.delete(self.at(&format!("v1/sessions/{id}")));
        let request = match reason {
            Some(reason) => request.json(&json!({"reason": reason})),
            None => request,
        };
        let (status, ()) = self.send_for_status(request).await?;
        Ok(match status {
            StatusCode::ACCEPTED => {
                format!("session {id} was told to end; its gateway has not said yet that it has")
            }
            _ => format!("session {id} has ended"),
        })
    }

    async fn session_that_begins(&self, session: &str) -> Result<String, ConsoleCommandError> {
        let unknown = || ConsoleCommandError::UnknownSession(session.to_owned());
        if session.is_empty() {
            return Err(unknown());
        }
        let all = self.sessions(&SessionFilter::default()).await?;
        let mut found = all.iter().filter(|listed| listed.text("id").starts_with(session));
        let id = found.next().ok_or_else(unknown)?.text("id");
        match (found.next(), id.parse::<Uuid>()) {
            (None, Ok(id)) => Ok(id.to_string()),
            (None, Err(_)) => Err(unknown()),
            (Some(_), _) => Err(ConsoleCommandError::AmbiguousSession(session.to_owned())),
        }
    }
}

impl ListedSession {
    fn text(&self, key: &str) -> &str {
        self.0.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    fn number(&self, key: &str) -> u64 {
        self.0.get(key).and_then(Value::as_u64).unwrap_or_default()
    }

    /// How long ago a time was.
    fn age(&self, key: &str, now: SystemTime) -> String {
        let time = humantime::parse_rfc3339(self.text(key)).ok();
        time.map_or_else(String::new, |time| age(now.duration_since(time).unwrap_or_default()))
    }

    fn row(&self, now: SystemTime) -> [String; 9] {
        let mut state = match self.text("access") {
            "view" => "view only".to_owned(),
            _ => String::new(),
        };
        if let Some(code) = self.0.get("ending").and_then(|ending| ending["code"].as_str()) {
            state = format!("ending: {code}");
        }
        let user = if self.text("user").is_empty() { "caller" } else { "user" };
        let shown = |key| self.text(key).to_owned();
        let id = self.text("id").get(..8).unwrap_or_default().to_owned();
        [
            id,
            shown("machine"),
            shown("protocol"),
            shown(user),
            shown("client"),
            self.age("opened_at", now),
            self.age("last_message_at", now),
            bytes(self.number("bytes_to_browser")),
            state,
        ]
        .map(|text| match text.is_empty() {
            true => "-".to_owned(),
            false => printable_within(&text, PRINTED_LIMIT),
        })
    }
}

/// The sessions as a table for people, at this time.
pub fn table(sessions: &[ListedSession], now: SystemTime) -> String {
    const HEAD: [&str; 9] =
        ["SESSION", "MACHINE", "PROTOCOL", "USER", "CLIENT", "OPEN", "LAST", "TO BROWSER", "STATE"];
    if sessions.is_empty() {
        return "no console is open".to_owned();
    }
    let rows: Vec<[String; 9]> = std::iter::once(HEAD.map(str::to_owned))
        .chain(sessions.iter().map(|session| session.row(now)))
        .collect();
    let mut widths = [0; 9];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; 9]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A duration by its largest units: `42s`, `12m`, `3h 5m`, `2d 4h`.
fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m"),
        (0, _, _) => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

/// Bytes by their largest unit.
fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut tenths, mut unit) = (u128::from(bytes) * 10 / 1024, 0);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(session: Value) -> ListedSession {
        serde_json::from_value(session).unwrap()
    }

    #[test]
    fn sessions_are_a_table_that_people_can_read() {
        let now = humantime::parse_rfc3339("2026-11-27T12:00:00Z").unwrap();
        let sessions = [
            listed(json!({"id": "5d93eed6-a1b7-4668-903c-b43c7c81d44c", "machine": "web-1",
                "protocol": "vnc", "caller": "keystone:4f1f", "user": "alice@Default",
                "client": "203.0.113.7", "opened_at": "2026-11-27T11:00:00Z",
                "last_message_at": "2026-11-27T11:59:18Z", "bytes_to_browser": 1_572_864,
                "ending": null})),
            listed(json!({"id": "0a2ee0a4-6a3d-4a86-9d1c-3a5fd7a1a6cf", "machine": "ü\u{1b}[31m",
                "protocol": "webmks", "caller": "api_token:portal", "user": null, "client": null,
                "opened_at": "2026-11-25T10:00:00Z", "last_message_at": null,
                "access": "view", "bytes_to_browser": 7,
                "ending": {"code": "token_revoked", "message": "x"}})),
        ];
        let expected = "\
SESSION   MACHINE      PROTOCOL  USER              CLIENT       OPEN   LAST  TO BROWSER  STATE
5d93eed6  web-1        vnc       alice@Default     203.0.113.7  1h 0m  42s   1.5 MiB     -
0a2ee0a4  ü\\u{1b}[31m  webmks    api_token:portal  -            2d 2h  -     7 B         ending: token_revoked";
        assert_eq!(table(&sessions, now), expected);
        assert_eq!(table(&[], now), "no console is open");
        assert_eq!(
            table(&[listed(json!({"opened_at": 5, "ending": "x"}))], now).lines().count(),
            2
        );
    }

    #[test]
    fn durations_and_sizes_have_their_largest_unit() {
        for (seconds, shown) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (3600, "1h 0m"), (90_000, "1d 1h")]
        {
            assert_eq!(age(Duration::from_secs(seconds)), shown);
        }
        for (count, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1024 * 1024 - 1, "1023.9 KiB"),
            (5 * 1024 * 1024 * 1024, "5.0 GiB"),
            (u64::MAX, "16383.9 PiB"),
        ] {
            assert_eq!(bytes(count), shown);
        }
    }
}
