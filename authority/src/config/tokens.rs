//! `[tokens]`: where tokens are kept.

use super::section::Section;
use super::values::{check_port, read_password};
use crate::tls::Trust;
use crate::tokens::RedisServer;
use redis::RedisConnectionInfo;
use secrecy::{ExposeSecret, SecretString};
use std::num::NonZeroUsize;
use std::time::Duration;
use url::Url;

/// Default of `capacity`: a thousand consoles a minute at the default lifetime of a token, in some four
/// megabytes.
const DEFAULT_CAPACITY: i64 = 10_000;
/// A gigabyte of tokens is a mistake in the configuration.
const MOST_CAPACITY: i64 = 1_000_000;

/// Default of `timeout`. A check asks the store once, or twice if tokens are for single use, and a vCenter
/// between; together they stay below the filter's default timeout of 5 s.
const DEFAULT_TIMEOUT: Duration = Duration::from_millis(500);
const LEAST_TIMEOUT: Duration = Duration::from_millis(50);
const MOST_TIMEOUT: Duration = Duration::from_secs(10);

/// memcached's port.
const MEMCACHED_PORT: u16 = 11211;

/// Redis's port.
const REDIS_PORT: u16 = 6379;

/// `[tokens]`.
#[derive(Debug)]
pub enum TokensConfig {
    /// In this process.
    Memory {
        /// Most live tokens.
        capacity: NonZeroUsize,
    },
    /// In memcached.
    Memcached {
        /// `HOST:PORT`.
        address: String,
        /// How long a call may take.
        timeout: Duration,
    },
    /// In Redis.
    Redis {
        /// Where it is, what it is trusted by, and the password. Boxed because it is large.
        server: Box<RedisServer>,
        /// How long to wait for it.
        timeout: Duration,
    },
}

pub(super) fn read_tokens(mut section: Section<'_>) -> Option<TokensConfig> {
    let config = match section.string_or("store", "memory")?.as_str() {
        "memory" => read_memory(&mut section),
        "memcached" => read_memcached(&mut section),
        "redis" => read_redis(&mut section),
        _ => {
            section.problem("store", "must be \"memory\", \"memcached\" or \"redis\"");
            return None;
        }
    };
    section.end();
    config
}

fn read_memory(section: &mut Section<'_>) -> Option<TokensConfig> {
    for key in ["url", "username", "password_file", "ca_file", "timeout"] {
        section.misplaced(key, "is for a store on the network: set store, too");
    }
    let capacity = section.integer_or("capacity", DEFAULT_CAPACITY, 1..=MOST_CAPACITY)?;
    let capacity = NonZeroUsize::new(usize::try_from(capacity).ok()?)?;
    Some(TokensConfig::Memory { capacity })
}

fn read_memcached(section: &mut Section<'_>) -> Option<TokensConfig> {
    section.misplaced("capacity", "is for store = \"memory\": memcached has its own, -m");
    for key in ["username", "password_file", "ca_file"] {
        section.misplaced(key, "is for store = \"redis\": memcached asks for no password");
    }
    let url = section.required_string("url");
    let address = url.and_then(|url| section.ok("url", parse_memcached_url(&url)));
    let timeout = read_timeout(section);
    Some(TokensConfig::Memcached { address: address?, timeout: timeout? })
}

fn read_redis(section: &mut Section<'_>) -> Option<TokensConfig> {
    section.misplaced("capacity", "is for store = \"memory\": Redis has its own, maxmemory");
    let url = section.required_string("url");
    let url = url.and_then(|url| section.ok("url", parse_redis_url(&url)));
    let with_password = section.has("password_file");
    if section.has("username") && !with_password {
        section.problem("username", "needs a password_file beside it");
    }
    let username = section.string("username");
    let password = if with_password {
        let file = read_password(section)?;
        Some(section.ok("password_file", file.read_blocking())?)
    } else {
        None
    };
    let ca_file = section.file("ca_file");
    let timeout = read_timeout(section);
    let url = url?;
    if ca_file.is_some() && url.scheme() != "rediss" {
        section.problem("ca_file", "needs a url that begins with rediss://");
        return None;
    }
    let settings = section.ok("url", redis_settings(&url, username, password));
    let tls = match (url.scheme(), ca_file) {
        ("rediss", Some(path)) => Some(section.ok("ca_file", Trust::CaFile(path).client_config())?),
        ("rediss", None) => Some(section.ok("url", Trust::System.client_config())?),
        _ => None,
    };
    let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = url.port().unwrap_or(REDIS_PORT);
    let server = RedisServer { host, port, tls, settings: settings? };
    Some(TokensConfig::Redis { server: Box::new(server), timeout: timeout? })
}

fn read_timeout(section: &mut Section<'_>) -> Option<Duration> {
    section.duration_or("timeout", DEFAULT_TIMEOUT, LEAST_TIMEOUT..=MOST_TIMEOUT)
}

fn redis_settings(
    url: &Url,
    username: Option<String>,
    password: Option<SecretString>,
) -> Result<RedisConnectionInfo, String> {
    let database = match url.path().trim_start_matches('/') {
        "" => 0,
        number => number.parse::<u32>().map_err(|_| format!("{number:?} is no database"))?,
    };
    let mut settings = RedisConnectionInfo::default().set_db(database.into());
    if let Some(username) = username {
        settings = settings.set_username(username);
    }
    if let Some(password) = password {
        settings = settings.set_password(password.expose_secret());
    }
    Ok(settings)
}

/// Parses `memcached://HOST` or `memcached://HOST:PORT` into `HOST:PORT`.
fn parse_memcached_url(text: &str) -> Result<String, String> {
    let url = parse_store_url(text, &["memcached"])?;
    if !matches!(url.path(), "" | "/") {
        return Err("must end with the port: memcached has no databases".to_owned());
    }
    let host = url.host_str().unwrap_or_default();
    Ok(format!("{host}:{}", url.port().unwrap_or(MEMCACHED_PORT)))
}

/// Parses `redis://HOST:PORT/DATABASE`, in which port and database are optional; `rediss` means TLS.
fn parse_redis_url(text: &str) -> Result<Url, String> {
    parse_store_url(text, &["redis", "rediss"])
}

fn parse_store_url(text: &str, schemes: &[&str]) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    if !schemes.contains(&url.scheme()) {
        return Err(format!("must begin with {}://", schemes.join(":// or ")));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("must name a host".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not contain a user name or password: use the keys for them".to_owned());
    }
    check_port(&url)?;
    // Redis clients read options there, one of which is to trust any certificate.
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must have nothing after the database".to_owned());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_s_url_names_a_host_and_nothing_secret() {
        for (text, expected) in [
            ("memcached://127.0.0.1:11212", Some("127.0.0.1:11212")),
            ("memcached://cache.example.com", Some("cache.example.com:11211")),
            ("memcached://cache.example.com/", Some("cache.example.com:11211")),
            ("memcached://[::1]:11211", Some("[::1]:11211")),
            ("memcached://", None),
            ("memcached:///tmp/socket", None),
            ("memcached://cache.example.com/1", None),
            ("memcached://user@cache.example.com", None),
            ("redis://cache.example.com", None),
            ("cache.example.com:11211", None),
        ] {
            let parsed = parse_memcached_url(text);
            assert_eq!(parsed.as_deref().ok(), expected, "{text}: {parsed:?}");
        }
        for (text, good) in [
            ("redis://127.0.0.1", true),
            ("redis://[::1]:6380/3", true),
            ("rediss://redis.example.com:6380/0", true),
            ("rediss://redis.example.com#insecure", false),
            ("redis://redis.example.com?protocol=resp3", false),
            ("redis://:secret@redis.example.com", false),
            ("redis+unix:///run/redis.sock", false),
            ("http://redis.example.com", false),
        ] {
            assert_eq!(parse_redis_url(text).is_ok(), good, "{text}");
        }
    }
}
