//! The parameters of a query string, held to nova's schemas.

use super::call::Call;
use super::microversion::Microversion;
use super::schema::{additional, python};
use crate::http::error::ApiError;
use std::cmp::Ordering;
use url::form_urlencoded;

/// nova's `[api] max_limit`: items in one response.
const MAX_LIMIT: usize = 1000;

/// Most parameters in one query. Those that may be repeated are compared with every machine.
const PARAMETERS: usize = 100;

/// The parameters of a query string, in their order.
#[derive(Debug, Default)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(super) fn parse(text: Option<&str>) -> Result<Self, ApiError> {
        let parsed = form_urlencoded::parse(text.unwrap_or_default().as_bytes());
        if parsed.clone().nth(PARAMETERS).is_some() {
            let message = format!("The query has more than {PARAMETERS} parameters.");
            return Err(ApiError::bad_request(message));
        }
        Ok(Self(parsed.into_owned().collect()))
    }

    /// The parameters with their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Every value of a parameter that may be repeated.
    pub(super) fn all<'a, 'n>(
        &'a self,
        name: &'n str,
    ) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value)
    }

    /// The value of a parameter. Of several, nova takes the last.
    pub(super) fn last(&self, name: &str) -> Option<&str> {
        self.all(name).last()
    }

    /// Refuses parameters that the API does not have, if the version is strict about them. Before, they are ignored.
    pub(super) fn only(
        &self,
        known: impl Fn(&str) -> bool,
        version: Microversion,
        strict: Microversion,
    ) -> Result<(), ApiError> {
        if version < strict {
            return Ok(());
        }
        let mut unknown: Vec<&str> =
            self.iter().map(|(name, _)| name).filter(|name| !known(name)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        unknown.sort_unstable();
        unknown.dedup();
        Err(ApiError::bad_request(additional(&unknown)))
    }

    /// Which items of a list are asked for. `limit` and `marker` are nova's names for how many, and after which.
    pub(super) fn paging(&self) -> Result<Paging, ApiError> {
        let limits: Result<Vec<usize>, ApiError> = self.all("limit").map(parse_limit).collect();
        let limit = limits?.last().map_or(MAX_LIMIT, |limit| MAX_LIMIT.min(*limit));
        let others = self.iter().filter(|(name, _)| *name != "marker");
        Ok(Paging {
            limit,
            marker: self.last("marker").map(str::to_owned),
            others: others.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        })
    }
}

/// Which items of a list are asked for.
#[derive(Debug)]
pub(super) struct Paging {
    /// How many, at most.
    pub(super) limit: usize,
    /// The identifier of the item that they follow.
    pub(super) marker: Option<String>,
    /// All parameters but the marker, for the link to the next page.
    others: Vec<(String, String)>,
}

impl Paging {
    /// Sorts the items that are on the page, and drops those that follow it. Of a long list that costs a look at each item, and
    /// a sort of the page alone. The order has to be total.
    pub(super) fn sort<T>(&self, items: &mut Vec<T>, compare: impl Fn(&T, &T) -> Ordering) {
        if items.len() > self.limit {
            items.select_nth_unstable_by(self.limit, &compare);
            items.truncate(self.limit);
        }
        items.sort_unstable_by(compare);
    }

    /// Cuts the list to the limit. Returns the link to the next page, which is below `path`. As in nova, a full page links
    /// to a next one, even if that turns out to be empty.
    pub(super) fn cut<T>(
        &self,
        items: &mut Vec<T>,
        id: impl Fn(&T) -> String,
        call: &Call,
        path: &str,
    ) -> Option<String> {
        items.truncate(self.limit);
        let last = items.last().filter(|_| items.len() == self.limit)?;
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.others).append_pair("marker", &id(last));
        Some(call.link(&format!("{path}?{}", query.finish())))
    }

    /// The error for a marker that is not an item of the list.
    pub(super) fn unknown(marker: &str) -> ApiError {
        ApiError::bad_request(format!("marker [{marker}] not found"))
    }
}

/// The error for a value that nova's schema does not allow.
pub(super) fn invalid(name: &str, value: &str, reason: &str) -> ApiError {
    let shown = python(&value.into());
    ApiError::bad_request(format!(
        "Invalid input for query parameters {name}. Value: {value}. {shown} {reason}"
    ))
}

fn parse_limit(text: &str) -> Result<usize, ApiError> {
    if text.is_empty() {
        return Err(invalid("limit", text, "should be non-empty"));
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid("limit", text, "does not match '^[0-9]*$'"));
    }
    // A number that overflows exceeds the number of items.
    Ok(text.parse().unwrap_or(usize::MAX))
}

/// A boolean as oslo's `bool_from_string` reads it.
pub(super) fn is_true(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "on" | "y" | "yes" => Some(true),
        "0" | "f" | "false" | "off" | "n" | "no" => Some(false),
        _ => None,
    }
}
