//! Host and path of a request as the access log shows them: bounded and printable, and without anything that may be a
//! token.
//!
//! Tokens belong into a fragment, a subprotocol, a query or a cookie, but links get broken: a portal that encodes
//! `console.html#token=TOKEN` as `console.html%23token=TOKEN` makes the token a part of the path. So the log shows
//! neither a query nor what has the form of a token, wherever it stands and however it is encoded.

use std::borrow::Cow;

/// What stands in the place of a hidden part.
const HIDDEN: &str = "{hidden}";

/// Fewest hexadecimal digits in a row, hyphens between them not counted, that are hidden. A token, a UUID, has 32;
/// of one that is cut into two pieces the log shows less than a quarter.
const HEX_DIGITS_MIN: usize = 8;

/// The word after which everything is hidden: `token=…`, `/os-console-auth-tokens/…`.
const TOKEN: &[u8] = b"token";

/// How the fragment of a console link begins.
const LINK: &[u8] = b"#token=";

/// Returns the path without query and fragment, and without anything that may be a token. A path without such a part
/// stays as it is, one with it is decoded.
///
/// Decodes percent-encoding as often as it was applied. Instance UUIDs are hidden too, since they have the form of a
/// token; the authority's log has them.
pub fn logged_path(path: &str) -> Cow<'_, str> {
    let end = path.find(['?', '#']).unwrap_or(path.len());
    let path = path.get(..end).unwrap_or_default();
    let decoded = decode(path);
    let hidden = hide(&decoded);
    if hidden == decoded { Cow::Borrowed(path) } else { Cow::Owned(printable(&hidden)) }
}

/// Decodes percent-encoding, and what comes of it again, in one pass.
fn decode(path: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    for byte in path.bytes() {
        decoded.push(byte);
        while let [.., b'%', high, low] = *decoded
            && let (Some(high), Some(low)) = (digit(high), digit(low))
        {
            decoded.truncate(decoded.len().saturating_sub(3));
            decoded.push((high << 4) | low);
        }
    }
    decoded
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Hides what may be a token in a decoded path.
fn hide(decoded: &[u8]) -> Vec<u8> {
    // An encoded `?` or `#` begins a query or a fragment that was meant to be one.
    let end = decoded.iter().position(|byte| b"?#".contains(byte)).unwrap_or(decoded.len());
    let (mut rest, cut) = decoded.split_at(end);
    let mut shown = Vec::with_capacity(decoded.len());
    while let Some((first, after_first)) = rest.split_first() {
        if let Some((word, after)) = split_word(rest) {
            shown.extend_from_slice(word);
            if !after.is_empty() || !cut.is_empty() {
                shown.extend_from_slice(HIDDEN.as_bytes());
            }
            return shown;
        }
        let run_len = rest.iter().take_while(|byte| is_of_uuid(**byte)).count();
        let (run, after_run) = rest.split_at(run_len);
        let digits = run.iter().filter(|byte| byte.is_ascii_hexdigit()).count();
        match (run_len, digits) {
            (0, _) => {
                shown.push(*first);
                rest = after_first;
                continue;
            }
            (_, HEX_DIGITS_MIN..) => shown.extend_from_slice(HIDDEN.as_bytes()),
            _ => shown.extend_from_slice(run),
        }
        rest = after_run;
    }
    if !cut.is_empty() {
        shown.extend_from_slice(HIDDEN.as_bytes());
    }
    shown
}

fn is_of_uuid(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || byte == b'-'
}

/// The word `token` or `tokens` at the front, and what follows it.
fn split_word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (word, after) = text.split_at_checked(TOKEN.len())?;
    if !word.eq_ignore_ascii_case(TOKEN) {
        return None;
    }
    let plural = usize::from(matches!(after, [b's' | b'S', ..]));
    text.split_at_checked(TOKEN.len().saturating_add(plural))
}

/// Longest host that is shown, in bytes: a name of DNS (RFC 1035 2.3.4) with a port.
const HOST_LEN_MAX: usize = 262;

/// Returns the `:authority` of a request, cut to the length that a host can have.
pub fn logged_host(authority: &str) -> String {
    let bytes = authority.as_bytes();
    printable(bytes.get(..HOST_LEN_MAX).unwrap_or(bytes))
}

/// Encodes again what is not printable, so that the log gets text.
fn printable(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path {
        if byte.is_ascii_graphic() {
            text.push(char::from(*byte));
        } else {
            text.push('%');
            for half in [byte >> 4, byte & 0xf] {
                text.extend(char::from_digit(half.into(), 16));
            }
        }
    }
    text
}

/// Whether the path is a console link whose `#` was encoded. Its fragment has become a part of the path, and no page
/// is there.
pub fn is_encoded_link(path: &str) -> bool {
    path.contains('%') && decode(path).windows(LINK.len()).any(|part| part == LINK)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "5d3c1a9e-7f42-4e0b-9a68-0c4f1d2b3e57";

    /// The percent-encoding of every byte.
    fn encode(text: &str) -> String {
        text.bytes().map(|byte| format!("%{byte:02X}")).collect()
    }

    #[test]
    fn a_path_without_a_token_stays_as_it_is() {
        for (path, logged) in [
            ("/", "/"),
            ("/console.html", "/console.html"),
            ("/console.html?autoconnect=1", "/console.html"),
            ("/v2.1/servers/detail?name=a", "/v2.1/servers/detail"),
            (
                "/v2.1/os-hypervisors/Cluster%20%231/servers",
                "/v2.1/os-hypervisors/Cluster%20{hidden}",
            ),
            (
                "/v2.1/os-hypervisors/Cluster%201/servers",
                "/v2.1/os-hypervisors/Cluster%201/servers",
            ),
            ("/v1/vms/web-1/tokens", "/v1/vms/web-1/tokens"),
            ("/100%", "/100%"),
            ("/a--------------------b", "/a--------------------b"),
            ("", ""),
        ] {
            assert_eq!(logged_path(path), logged);
        }
    }

    #[test]
    fn a_token_is_hidden_wherever_and_however_it_stands_in_the_path() {
        for (path, logged) in [
            ("/console.html%23token=TOKEN", "/console.html{hidden}"),
            ("/console.html%23token%3DTOKEN", "/console.html{hidden}"),
            ("/console.html%2523token%253DTOKEN", "/console.html{hidden}"),
            ("/console.html%252523token=TOKEN", "/console.html{hidden}"),
            ("/console.html%3Ftoken=TOKEN", "/console.html{hidden}"),
            ("/console.html&token=TOKEN", "/console.html&token{hidden}"),
            ("/console.html;Token:TOKEN", "/console.html;Token{hidden}"),
            ("/os-console-auth-tokens/TOKEN", "/os-console-auth-tokens{hidden}"),
            ("/os-console-auth-tokens/TOKEN%2f", "/os-console-auth-tokens{hidden}"),
            ("/os-console-auth-to%6bens/x", "/os-console-auth-tokens{hidden}"),
            ("/TOKEN", "/{hidden}"),
            ("/%20TOKEN%0a/x", "/%20{hidden}%0a/x"),
            ("/xTOKENx", "/x{hidden}x"),
            ("/a/5D3C1A9E7F424E0B9A680C4F1D2B3E57/b", "/a/{hidden}/b"),
            ("/a/5d3c1a9e-7f42-4e0b%0A-9a68-0c4f1d2b3e57", "/a/{hidden}%0a{hidden}"),
            ("/v2.1/servers/TOKEN/action", "/v2.1/servers/{hidden}/action"),
            ("/?token=TOKEN", "/"),
            ("/#token=TOKEN", "/"),
        ] {
            assert_eq!(logged_path(&path.replace("TOKEN", TOKEN)), logged, "{path}");
        }
        let once = encode(TOKEN);
        let twice = encode(&once);
        for token in [once, twice, TOKEN.replace('-', "%2D"), TOKEN.replace('d', "%%364")] {
            for path in ["/TOKEN", "/a%23token=TOKEN", "/a/TOKEN/b", "/token/TOKEN"] {
                let logged = logged_path(&path.replace("TOKEN", &token)).into_owned();
                assert!(logged.contains(HIDDEN), "{path} {token}");
                assert!(!logged.contains("7f42"), "{logged}");
            }
        }
    }

    #[test]
    fn a_hostile_path_costs_no_more_than_its_length() {
        // Each takes hours if the work grows with the square of the length.
        for part in ["%25", "%", "-", "a-", "token", "%2525"] {
            let path = format!("/{}", part.repeat(1_000_000 / part.len()));
            assert!(logged_path(&path).len() <= path.len().max(100));
        }
    }

    #[test]
    fn a_host_is_bounded_and_printable() {
        for (authority, logged) in [
            ("consoles.example.com:8443", "consoles.example.com:8443"),
            ("[2001:db8::1]:443", "[2001:db8::1]:443"),
            ("a\n{\"b\": \u{e9}}", "a%0a{\"b\":%20%c3%a9}"),
            ("", ""),
        ] {
            assert_eq!(logged_host(authority), logged);
        }
        assert_eq!(logged_host(&"a".repeat(30_000)), "a".repeat(HOST_LEN_MAX));
        // A character that the cut divides.
        assert!(logged_host(&"\u{e9}".repeat(200)).is_ascii());
    }

    #[test]
    fn a_link_with_an_encoded_fragment_is_known() {
        for path in ["/console.html%23token=x", "/console.html%2523token%253Dx", "/a%23TOKEN=x"] {
            assert_eq!(is_encoded_link(path), !path.contains('T'), "{path}");
        }
        for path in ["/console.html", "/os-hypervisors/Cluster%231/servers", "/a%23tokens"] {
            assert!(!is_encoded_link(path), "{path}");
        }
    }
}
