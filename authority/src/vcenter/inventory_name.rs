//! Names in the inventory, as vCenter writes them and as people know them.
//!
//! vCenter escapes three characters in the name of every object (`ManagedEntity.name`): a slash as `%2f`, a backslash as
//! `%5c`, and a percent sign as `%25`. It takes the sequences in upper case too.

/// The name as people know it.
pub(super) fn decode(name: &str) -> String {
    let mut decoded = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find('%') {
        let (before, escaped) = rest.split_at(at);
        decoded.push_str(before);
        let character = match escaped.get(1..3).map(str::to_ascii_lowercase).as_deref() {
            Some("2f") => '/',
            Some("5c") => '\\',
            Some("25") => '%',
            // A percent sign that begins no sequence stands for itself.
            _ => {
                decoded.push('%');
                rest = &escaped[1..];
                continue;
            }
        };
        decoded.push(character);
        rest = &escaped[3..];
    }
    decoded + rest
}

/// The name as vCenter writes it.
pub(super) fn encode(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2f").replace('\\', "%5c")
}

/// One of several ways to write a name in an inventory path, in the way that vCenter has it.
pub(super) fn normalize(name: &str) -> String {
    encode(&decode(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_shown_as_people_wrote_them() {
        for (written, shown) in [
            ("web-1", "web-1"),
            ("a%2fb", "a/b"),
            ("a%2Fb%5C%5cc", "a/b\\\\c"),
            ("100%25", "100%"),
            ("%252f", "%2f"),
            ("100%", "100%"),
            ("%zz%2", "%zz%2"),
            ("%é%2fé", "%é/é"),
        ] {
            assert_eq!(decode(written), shown);
        }
        assert_eq!(encode("a/b\\c 100% %2f"), "a%2fb%5cc 100%25 %252f");
        assert_eq!(normalize("a%2Fb 100%"), "a%2fb 100%25");
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(name in ".{0,20}|[%25cCfF/\\\\]{0,12}") {
            prop_assert_eq!(decode(&encode(&name)), name);
        }
    }
}
