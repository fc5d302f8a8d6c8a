//! The allowed word that is nearest to a given one.

use strsim::osa_distance;

/// Returns the word among `allowed` that differs from `word` in at most a third of its letters, or
/// that begins with `word`.
pub(crate) fn nearest(
    word: &str,
    allowed: impl IntoIterator<Item = &'static str>,
) -> Option<&'static str> {
    // Longer words are not typing mistakes, and would make the comparison slow.
    if word.is_empty() || word.len() > 32 {
        return None;
    }
    let word = word.to_lowercase();
    allowed
        .into_iter()
        .map(|it| match word.len() >= 3 && it.starts_with(&word) {
            true => (1, it),
            false => (osa_distance(&word, it), it),
        })
        .min_by_key(|it| it.0)
        .filter(|(distance, it)| *distance <= it.len().div_ceil(3))
        .map(|it| it.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_typing_mistakes_and_prefixes_but_no_strangers() {
        let allowed = ["capacity", "max-message", "mode", "priority", "driver"];
        assert_eq!(nearest("capactiy", allowed), Some("capacity"));
        assert_eq!(nearest("MODE", allowed), Some("mode"));
        // A swap is one mistake.
        assert_eq!(nearest("mdoe", allowed), Some("mode"));
        assert_eq!(nearest("prio", allowed), Some("priority"));
        assert_eq!(nearest("max_message", allowed), Some("max-message"));
        assert_eq!(nearest("colour", allowed), None);
        assert_eq!(nearest("", allowed), None);
        assert_eq!(nearest(&"m".repeat(1000), allowed), None);
    }
}
