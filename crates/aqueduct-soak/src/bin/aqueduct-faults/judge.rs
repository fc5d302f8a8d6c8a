//! What may follow a call that fails, and what may not.

use std::collections::BTreeMap;

use crate::driver::Ran;

/// What became of the runs. Each run counts once.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) rows: BTreeMap<(&'static str, &'static str), Row>,
    /// What only the injection explains, and how often.
    pub(crate) excuses: BTreeMap<&'static str, u32>,
    pub(crate) wrong: Vec<String>,
}

/// What became of all runs with one call and error.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Row {
    pub(crate) injected: u32,
    /// Runs in which all went well all the same.
    pub(crate) succeeded: u32,
    /// Runs that ended with an error.
    pub(crate) failed: u32,
    pub(crate) panicked: u32,
    pub(crate) hung: u32,
    pub(crate) leaked: u32,
    pub(crate) lost: u32,
    pub(crate) excused: u32,
}

/// What a call that was left out leaves behind, although the library did what it could.
#[derive(Clone, Copy, Debug)]
struct Allowed {
    why: &'static str,
    descriptors: usize,
    /// At most one, that ends with this.
    name: Option<&'static str>,
    hang: bool,
}

impl Tally {
    /// Takes in what followed when the `n`-th `call` of a mechanism failed with `error`.
    pub(crate) fn take(
        &mut self,
        ran: &Ran,
        name: &str,
        (call, error, n): (&'static str, &'static str, u32),
    ) {
        let told = format!("{name}, {call} number {n}: {error}");
        let allowed = allowed(name, call);
        let row = self.rows.entry((call, error)).or_default();
        row.injected += 1;
        let Some(outcome) = &ran.outcome else {
            let (count, what) = match allowed {
                Some(it) if ran.timed_out && it.hang => {
                    row.excused += 1;
                    *self.excuses.entry(it.why).or_default() += 1;
                    return;
                }
                _ if ran.timed_out => (&mut row.hung, "hangs".to_owned()),
                _ if call == "write" && ran.stderr.contains(TOKIO_WAKES_ITSELF) => {
                    row.excused += 1;
                    *self.excuses.entry(EVENTFD).or_default() += 1;
                    return;
                }
                _ => (&mut row.panicked, format!("panics: {}", ran.stderr.trim())),
            };
            *count += 1;
            self.wrong.push(format!("{told}: {what}"));
            return;
        };
        let mut excuse = None;
        let mut wrong = Vec::new();
        if let Some(place) = &outcome.hung {
            match allowed {
                Some(it) if it.hang => excuse = Some(it.why),
                _ => wrong.push((&mut row.hung, format!("{place} hangs"))),
            }
        }
        let (descriptors, names) = (&outcome.leaked, &outcome.names);
        if !(descriptors.is_empty() && names.is_empty()) {
            let is_allowed = |it: &Allowed| {
                let is_named = |name: &String| it.name.is_some_and(|end| name.ends_with(end));
                descriptors.len() <= it.descriptors
                    && names.len() <= 1
                    && names.iter().all(is_named)
            };
            match allowed.filter(is_allowed) {
                Some(it) => excuse = Some(it.why),
                None => wrong.push((&mut row.leaked, format!("leaked {descriptors:?} {names:?}"))),
            }
        }
        if !(outcome.lost.is_empty() && outcome.wrong.is_empty()) {
            let what = format!("lost {:?} {:?}", outcome.lost, outcome.wrong);
            wrong.push((&mut row.lost, what));
        }
        let is_wrong = !wrong.is_empty();
        for (i, (count, what)) in wrong.into_iter().enumerate() {
            *count += u32::from(i == 0);
            let after = &outcome.errors;
            self.wrong.push(format!("{told}: {what} after {after:?}"));
        }
        match excuse {
            _ if is_wrong => {}
            Some(why) => {
                row.excused += 1;
                *self.excuses.entry(why).or_default() += 1;
            }
            None if outcome.errors.is_empty() => row.succeeded += 1,
            None => row.failed += 1,
        }
    }

    pub(crate) fn print(&self) {
        println!(
            "{:<18} {:<13} {:>8} {:>9} {:>7} {:>8} {:>5} {:>7} {:>5} {:>7}",
            "system call",
            "error",
            "injected",
            "succeeded",
            "errors",
            "panicked",
            "hung",
            "leaked",
            "lost",
            "excused"
        );
        for ((call, error), row) in &self.rows {
            row.print(call, error);
        }
        self.row().print("all", "");
        for (why, count) in &self.excuses {
            println!("excused {count} times: {why}");
        }
        for what in &self.wrong {
            println!("wrong: {what}");
        }
    }

    /// The sum of all rows.
    pub(crate) fn row(&self) -> Row {
        let mut all = Row::default();
        self.rows.values().for_each(|row| all.add(*row));
        all
    }

    pub(crate) fn add(&mut self, other: Self) {
        for (key, row) in other.rows {
            self.rows.entry(key).or_default().add(row);
        }
        for (why, count) in other.excuses {
            *self.excuses.entry(why).or_default() += count;
        }
        self.wrong.extend(other.wrong);
    }
}

impl Row {
    fn add(&mut self, other: Self) {
        self.injected += other.injected;
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.panicked += other.panicked;
        self.hung += other.hung;
        self.leaked += other.leaked;
        self.lost += other.lost;
        self.excused += other.excused;
    }

    fn print(&self, call: &str, error: &str) {
        let Self {
            injected,
            succeeded,
            failed,
            panicked,
            hung,
            leaked,
            lost,
            excused,
        } = self;
        println!(
            "{call:<18} {error:<13} {injected:>8} {succeeded:>9} {failed:>7} {panicked:>8} {hung:>5} {leaked:>7} {lost:>5} {excused:>7}"
        );
    }
}

const TOKIO_WAKES_ITSELF: &str = "src/runtime/io/driver.rs";
const EVENTFD: &str =
    "Tokio panics where its own eventfd cannot be written, which the kernel never refuses";

fn allowed(name: &str, call: &str) -> Option<Allowed> {
    let nothing = Allowed {
        why: "",
        descriptors: 0,
        name: None,
        hang: false,
    };
    Some(match call {
        "recvfrom" if name == "exec" => Allowed {
            why: "std waits for the child's end where it cannot read from the socket that tells it of a failed exec",
            hang: true,
            ..nothing
        },
        "recvfrom" | "sendto" | "socket" | "fcntl"
            if name.starts_with("unix") || name.starts_with("shm") =>
        {
            Allowed {
                why: "the kernel was not asked which file is the socket's (sock_diag): the file stays, and the log says so",
                name: Some("link"),
                ..nothing
            }
        }
        "shutdown" => Allowed {
            why: "strace leaves the shutdown out, which the kernel refuses only if there is no peer: a peer keeps waiting for the end",
            hang: true,
            ..nothing
        },
        "close" => Allowed {
            why: "strace leaves the closing out: the descriptor stays open, and who waits for its end waits on",
            descriptors: 1,
            hang: true,
            ..nothing
        },
        "unlink" | "unlinkat" | "mq_unlink" => Allowed {
            why: "the removal itself fails: the name stays, and the log says so",
            name: Some(""),
            ..nothing
        },
        "newfstatat" | "statx" => Allowed {
            why: "what cannot be looked at is not known to be one's own: the name stays, and the log says so",
            name: Some(""),
            ..nothing
        },
        "fchmod" | "flock" => Allowed {
            why: "a lock file that was made and could not be locked may be another's by now: it stays",
            name: Some(".lock"),
            ..nothing
        },
        _ => return None,
    })
}
