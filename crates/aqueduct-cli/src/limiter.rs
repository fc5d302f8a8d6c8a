//! [`Limiter`]: many lines of one kind become a few and a count.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many lines of one kind are shown within a [`PERIOD`].
const MOST: u32 = 10;
const PERIOD: Duration = Duration::from_secs(10);

/// Decides which lines are shown. Peers can cause any number, so each kind has a limit; lines beyond
/// it are counted. The kind of a line is the place in the sources that it comes from.
#[derive(Debug)]
pub(crate) struct Limiter<K>(Mutex<HashMap<K, Window>>);

#[derive(Debug)]
struct Window {
    begin: Instant,
    shown: u32,
    hidden: u64,
    /// The last line that was not shown.
    last: String,
}

impl<K> Default for Limiter<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> Limiter<K> {
    /// What to show where `line` is to be shown: nothing, or the line, after a count of those that
    /// were not shown.
    pub(crate) fn admit(&self, kind: K, line: &str, now: Instant) -> Vec<String> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let window = windows.entry(kind).or_insert_with(|| Window::new(now));
        let mut lines = Vec::new();
        if now - window.begin >= PERIOD {
            lines.extend(window.count());
            *window = Window::new(now);
        }
        if window.shown < MOST {
            window.shown += 1;
            lines.push(line.to_owned());
        } else {
            window.hidden += 1;
            line.clone_into(&mut window.last);
        }
        lines
    }

    /// The counts that were not shown yet.
    pub(crate) fn finish(&self) -> Vec<String> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts: Vec<_> = windows.drain().filter_map(|(_, it)| it.count()).collect();
        counts.sort();
        counts
    }
}

impl Window {
    fn new(begin: Instant) -> Self {
        Self {
            begin,
            shown: 0,
            hidden: 0,
            last: String::new(),
        }
    }

    fn count(&self) -> Option<String> {
        let Self { hidden, last, .. } = self;
        (*hidden > 0).then(|| format!("{hidden} more like this: {last}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_limit_are_counted_for_each_kind() {
        let limiter = Limiter::default();
        let (one, two) = (("a", 1), ("a", 2));
        let now = Instant::now();
        let shown = (0..MOST + 5).map(|i| limiter.admit(one, &i.to_string(), now).len());
        assert_eq!(shown.sum::<usize>(), MOST as usize);
        assert_eq!(limiter.admit(two, "other", now), ["other"]);
        let later = limiter.admit(one, "later", now + PERIOD);
        assert_eq!(later, ["5 more like this: 14", "later"]);
        assert!(limiter.finish().is_empty());
        for _ in 0..MOST + 2 {
            limiter.admit(two, "last", now);
        }
        assert_eq!(limiter.finish(), ["2 more like this: last"]);
    }
}
