//! What the authority answers, and what a test expects of it.

use reqwest::Response;
use serde_json::{Value, json};
use std::net::IpAddr;

/// An answer, read to its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body: JSON, or else a JSON string of its text.
    pub body: Value,
}

impl Answer {
    /// Reads a response.
    ///
    /// # Panics
    ///
    /// When it breaks off.
    pub async fn of(response: Response) -> Self {
        let status = response.status().as_u16();
        let text = response.text().await.expect("a whole answer");
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Self { status, body }
    }

    /// Asserts that it is a refusal of the check or status API with this code.
    #[track_caller]
    pub fn assert_refused(&self, status: u16, code: &str) {
        assert_eq!((self.status, &self.body["code"]), (status, &json!(code)), "{}", self.body);
        let message = self.body["message"].as_str().expect("a message");
        assert!(!message.contains("127.0.0."), "no address for the browser: {message}");
    }

    /// Asserts that it is a grant of the console at `host` and `port`.
    #[track_caller]
    pub fn assert_granted(&self, host: IpAddr, port: u16) {
        let target = json!({"protocol": "vnc", "address": format!("{host}:{port}")});
        assert_eq!((self.status, &self.body["target"]), (200, &target), "{}", self.body);
    }

    /// Asserts that it is nova's error of this name and returns its message.
    #[track_caller]
    pub fn nova_error(&self, status: u16, name: &str) -> &str {
        assert_eq!(
            (self.status, &self.body[name]["code"]),
            (status, &json!(status)),
            "{}",
            self.body
        );
        self.body[name]["message"].as_str().expect("a message")
    }
}
