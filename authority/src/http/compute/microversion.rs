//! Microversions: nova's API is one version in many small steps, and each request names the one it is
//! written for.

use crate::http::error::ApiError;
use axum::http::header::VARY;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use std::fmt;

/// The API working group's header: `OpenStack-API-Version: compute 2.96`.
const HEADER: HeaderName = HeaderName::from_static("openstack-api-version");
/// nova's own from before that: `X-OpenStack-Nova-API-Version: 2.96`.
const LEGACY_HEADER: HeaderName = HeaderName::from_static("x-openstack-nova-api-version");
/// Both names in nova's spelling, for `Vary`.
const VARY_VALUES: [&str; 2] = ["OpenStack-API-Version", "X-OpenStack-Nova-API-Version"];
const SERVICE_TYPE: &str = "compute";
/// Stands for the newest version.
const LATEST: &str = "latest";

/// One version of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Microversion {
    major: u32,
    minor: u32,
}

/// A request for an unsupported version. The response names the version requested.
pub(super) struct NotNegotiated {
    refused: ApiError,
    requested: Option<Microversion>,
}

impl Microversion {
    /// The oldest version, which is also the default of a request that names no version.
    pub(super) const MIN: Self = Self::new(1);
    /// The newest version of nova 34.
    pub(super) const MAX: Self = Self::new(104);

    /// Version `2.MINOR`.
    pub(super) const fn new(minor: u32) -> Self {
        Self { major: 2, minor }
    }

    /// The version that a request is written for.
    pub(super) fn negotiate(headers: &HeaderMap) -> Result<Self, NotNegotiated> {
        let Some(text) = standard(headers).or_else(|| legacy(headers)) else {
            return Ok(Self::MIN);
        };
        if text == LATEST {
            return Ok(Self::MAX);
        }
        let Some(requested) = Self::parse(&text) else {
            let message = format!(
                "API Version String {text} is of invalid format. Must be of format \
                 MajorNum.MinorNum."
            );
            return Err(NotNegotiated { refused: ApiError::bad_request(message), requested: None });
        };
        if (Self::MIN..=Self::MAX).contains(&requested) {
            return Ok(requested);
        }
        let (min, max) = (Self::MIN, Self::MAX);
        let refused = ApiError::not_acceptable(format!(
            "Version {text} is not supported by the API. Minimum is {min} and maximum is {max}."
        ));
        Err(NotNegotiated { refused, requested: Some(requested) })
    }

    /// Adds the headers that name the version of a response, and `Vary`.
    pub(super) fn announce(self, headers: &mut HeaderMap) {
        let (standard, legacy) = (format!("{SERVICE_TYPE} {self}"), self.to_string());
        for (name, text) in [(HEADER, standard), (LEGACY_HEADER, legacy)] {
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.insert(name, value);
            }
        }
        for name in VARY_VALUES {
            headers.append(VARY, HeaderValue::from_static(name));
        }
    }

    /// Parses two decimal numbers without leading zeros. A number that overflows becomes the largest one.
    fn parse(text: &str) -> Option<Self> {
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            let padded = digits.len() > 1 && digits.starts_with('0');
            (plain && !padded).then(|| digits.parse().unwrap_or(u32::MAX))
        };
        let (major, minor) = text.split_once('.')?;
        let (major, minor) = (number(major)?, number(minor)?);
        (major > 0).then_some(Self { major, minor })
    }
}

impl fmt::Display for Microversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl IntoResponse for NotNegotiated {
    fn into_response(self) -> Response {
        let mut response = self.refused.into_response();
        if let Some(requested) = self.requested {
            requested.announce(response.headers_mut());
        }
        response
    }
}

/// The last version for this service in the header, which has a version for each service that the request may
/// pass through.
fn standard(headers: &HeaderMap) -> Option<String> {
    let entries = last_to_first(headers, &HEADER);
    entries.into_iter().find_map(|entry| {
        let (service, version) = entry.split_once(char::is_whitespace)?;
        service.eq_ignore_ascii_case(SERVICE_TYPE).then(|| version.trim().to_owned())
    })
}

fn legacy(headers: &HeaderMap) -> Option<String> {
    last_to_first(headers, &LEGACY_HEADER).into_iter().next()
}

/// The entries of a list header, which may span several lines.
fn last_to_first(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    let mut entries: Vec<String> =
        lines.flat_map(|line| line.split(',')).map(|entry| entry.trim().to_owned()).collect();
    entries.reverse();
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;

    fn headers(lines: &[(&HeaderName, &'static str)]) -> HeaderMap {
        let lines = lines.iter();
        lines.map(|&(name, line)| (name.clone(), HeaderValue::from_static(line))).collect()
    }

    fn negotiated(lines: &[(&HeaderName, &'static str)]) -> Option<String> {
        Microversion::negotiate(&headers(lines)).ok().map(|version| version.to_string())
    }

    #[test]
    fn a_request_names_its_version_in_either_header() {
        for (lines, version) in [
            (&[][..], "2.1"),
            (&[(&HEADER, "compute 2.30")], "2.30"),
            (&[(&HEADER, "Compute  2.30 ")], "2.30"),
            (&[(&HEADER, "identity 3.1, compute 2.6,compute 2.7")], "2.7"),
            (&[(&HEADER, "compute 2.6"), (&HEADER, "volume 3.1")], "2.6"),
            (&[(&HEADER, "volume 3.1")], "2.1"),
            (&[(&HEADER, "compute latest")], "2.104"),
            (&[(&LEGACY_HEADER, "2.5")], "2.5"),
            (&[(&LEGACY_HEADER, "2.5, 2.6")], "2.6"),
            (&[(&LEGACY_HEADER, "2.5"), (&HEADER, "compute 2.96")], "2.96"),
            (&[(&LEGACY_HEADER, "2.5"), (&HEADER, "volume 3.1")], "2.5"),
        ] {
            assert_eq!(negotiated(lines).as_deref(), Some(version), "{lines:?}");
        }
    }

    #[test]
    fn a_version_that_there_is_not_is_not_acceptable_and_is_echoed() {
        for (version, echo) in [
            ("compute 2.105", "compute 2.105"),
            ("compute 2.0", "compute 2.0"),
            ("compute 3.1", "compute 3.1"),
            ("compute 1.1", "compute 1.1"),
            ("compute 2.99999999999999", "compute 2.4294967295"),
        ] {
            let refused = Microversion::negotiate(&headers(&[(&HEADER, version)])).err().unwrap();
            let response = refused.into_response();
            assert_eq!(response.status(), StatusCode::NOT_ACCEPTABLE, "{version}");
            assert_eq!(response.headers()[HEADER], echo);
        }
    }

    #[test]
    fn what_is_no_version_is_a_bad_request() {
        for version in ["compute 2", "compute 2.x", "compute 2.01", "compute two", "compute 2.1.1"]
        {
            let refused = Microversion::negotiate(&headers(&[(&HEADER, version)])).err().unwrap();
            let response = refused.into_response();
            assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{version}");
            assert!(!response.headers().contains_key(HEADER));
        }
    }

    #[test]
    fn versions_are_numbers_and_not_decimals() {
        assert!(Microversion::new(9) < Microversion::new(10));
        assert_eq!(Microversion::parse("2.10"), Some(Microversion::new(10)));
    }
}
