//! The sizes in which a VNC server writes when a person works in a text console.
//!
//! `updates.txt` has one size in bytes a line, as recorded from QEMU's VNC server; its first line says
//! how.

use std::sync::LazyLock;

static SIZES: LazyLock<Vec<usize>> = LazyLock::new(|| {
    let lines = include_str!("updates.txt").lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.parse().expect("a size a line")).collect()
});

/// The recorded sizes, over and over.
pub(crate) fn sizes() -> impl Iterator<Item = usize> {
    SIZES.iter().copied().cycle()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_is_one_of_small_writes() {
        assert!(SIZES.len() > 100);
        assert!(SIZES.iter().all(|size| (1..=vncgate_load::pattern::SLICE_MAX).contains(size)));
    }
}
