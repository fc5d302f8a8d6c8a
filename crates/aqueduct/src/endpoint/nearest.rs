//! The allowed word that is most like the one that was written.

/// What people call our schemes elsewhere.
const SYNONYMS: [(&str, &str); 14] = [
    ("pipe", "fifo"),
    ("named-pipe", "fifo"),
    ("file", "fifo"),
    ("mqueue", "mq"),
    ("queue", "mq"),
    ("posixmq", "mq"),
    ("uds", "unix"),
    ("ipc", "unix"),
    ("seqpacket", "unixpacket"),
    ("inet", "tcp"),
    ("stdin", "stdio"),
    ("stdout", "stdio"),
    ("cmd", "exec"),
    ("process", "exec"),
];

/// The scheme that `word` most likely stands for.
pub(super) fn scheme(word: &str, allowed: &[&'static str]) -> Option<&'static str> {
    let synonym = SYNONYMS.iter().find(|it| it.0 == word);
    synonym
        .map(|it| it.1)
        .or_else(|| nearest(word, allowed.iter().copied()))
}

/// The word among `allowed` that is at most a third of its letters away from `word`, or that
/// `word` begins.
pub(super) fn nearest(
    word: &str,
    allowed: impl IntoIterator<Item = &'static str>,
) -> Option<&'static str> {
    // Longer words are no typing mistakes, and would make the comparison slow.
    if word.is_empty() || word.len() > 32 {
        return None;
    }
    let word = word.to_lowercase();
    allowed
        .into_iter()
        .map(|it| match word.len() >= 3 && it.starts_with(&word) {
            true => (1, it),
            false => (distance(&word, it), it),
        })
        .min_by_key(|it| it.0)
        .filter(|(distance, it)| *distance <= it.len().div_ceil(3))
        .map(|it| it.1)
}

/// How many letters to insert, remove, exchange or swap with their neighbour to get from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let exchange = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = exchange.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_counts_as_one_mistake() {
        assert_eq!(distance("mode", "mdoe"), 1);
        assert_eq!(distance("", "mode"), 4);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn nearest_finds_typing_mistakes_and_beginnings_but_no_strangers() {
        let allowed = ["capacity", "max-message", "mode", "priority", "driver"];
        assert_eq!(nearest("capactiy", allowed), Some("capacity"));
        assert_eq!(nearest("MODE", allowed), Some("mode"));
        assert_eq!(nearest("prio", allowed), Some("priority"));
        assert_eq!(nearest("max_message", allowed), Some("max-message"));
        assert_eq!(nearest("colour", allowed), None);
        assert_eq!(nearest("", allowed), None);
        assert_eq!(nearest(&"m".repeat(1000), allowed), None);
    }

    #[test]
    fn names_from_elsewhere_lead_to_the_scheme() {
        let allowed = ["fifo", "mq", "unix"];
        assert_eq!(scheme("pipe", &allowed), Some("fifo"));
        assert_eq!(scheme("fifi", &allowed), Some("fifo"));
        assert_eq!(scheme("http", &allowed), None);
    }
}
