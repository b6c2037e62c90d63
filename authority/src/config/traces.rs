//! `[traces]`: where spans are sent.

use super::section::Section;
use super::values::{check_port, read_tls};
use crate::traces::TracesConfig;
use url::Url;

/// `None` without the endpoint, or if a problem was noted.
pub(super) fn read_traces(mut section: Section<'_>) -> Option<TracesConfig> {
    let endpoint = section.parsed("otlp_endpoint", parse_endpoint);
    let tls = match &endpoint {
        Some(url) => read_tls(&mut section, Some(url)),
        None => {
            for key in ["ca_file", "certificate_sha256"] {
                section.misplaced(key, "has no use without otlp_endpoint");
            }
            None
        }
    };
    section.end();
    Some(TracesConfig { otlp_endpoint: endpoint?, tls: tls?.client_config() })
}

fn parse_endpoint(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must begin with https:// or http://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err("must be the collector's address and path alone".to_owned());
    }
    check_port(&url)?;
    Ok(url)
}
