//! `aqueduct doctor`: check the limits and settings that matter, and say what to change.

mod addresses;
mod queues;
mod system;

use serde::Serialize;

use crate::cli::DoctorArgs;
use crate::exit::Exit;
use crate::report::Report;
use crate::stdout;
use crate::table::{Table, cell};

/// One check; scripts rely on the names.
#[derive(Debug, Serialize)]
struct Check {
    check: &'static str,
    state: State,
    value: String,
    /// How much of the limit is in use, as far as it can be seen.
    used: Option<u64>,
    limit: Option<u64>,
    /// What it means, and what to do, if anything.
    advice: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// It works, but may soon fail, or works less well than it could.
    Low,
    /// Something does not work.
    Bad,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Low => "low",
            Self::Bad => "bad",
        }
    }
}

impl Check {
    fn new(check: &'static str, state: State, value: impl ToString) -> Self {
        let (value, advice) = (value.to_string(), String::new());
        Self {
            check,
            state,
            value,
            used: None,
            limit: None,
            advice,
        }
    }

    /// How much of a limit is in use: low from four fifths on, bad where nothing is left.
    fn usage(check: &'static str, used: u64, limit: Option<u64>) -> Self {
        let state = match limit {
            Some(limit) if used >= limit => State::Bad,
            Some(limit) if used >= limit / 5 * 4 => State::Low,
            _ => State::Ok,
        };
        let shown = limit.map_or_else(|| "unlimited".to_owned(), |it| it.to_string());
        Self {
            used: Some(used),
            limit,
            ..Self::new(check, state, format!("{used} of {shown}"))
        }
    }

    fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }
}

pub(crate) async fn run(args: &DoctorArgs, report: &Report) -> anyhow::Result<Exit> {
    let checks = match args.addresses.is_empty() {
        true => {
            let mut checks = queues::checks()?;
            checks.extend(system::checks()?);
            checks
        }
        false => addresses::checks(&args.addresses).await?,
    };
    let worst = checks.iter().map(|it| it.state).max();
    if args.format.json {
        stdout::write_json(&checks)?;
    } else {
        table(&checks)?;
    }
    let count = |state| checks.iter().filter(|it| it.state == state).count();
    let (low, bad) = (count(State::Low), count(State::Bad));
    match worst {
        Some(State::Bad) => anyhow::bail!("{bad} of {} checks are bad", checks.len()),
        Some(State::Low) => report.note(format_args!("{low} of {} are low", checks.len())),
        _ => report.note("all is well"),
    }
    Ok(Exit::Done)
}

fn table(checks: &[Check]) -> anyhow::Result<Exit> {
    let mut table = Table::new(&["check", "state", "value", "what to know or do"]);
    for check in checks {
        let advice = (!check.advice.is_empty()).then_some(&check.advice);
        table.row(vec![
            check.check.to_owned(),
            check.state.name().to_owned(),
            check.value.clone(),
            cell(advice),
        ]);
    }
    table.print()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_up_is_bad_and_what_nearly_is_low() {
        let state = |used, limit| Check::usage("x", used, limit).state;
        assert_eq!(state(0, Some(10)), State::Ok);
        assert_eq!(state(7, Some(10)), State::Ok);
        assert_eq!(state(8, Some(10)), State::Low);
        assert_eq!(state(10, Some(10)), State::Bad);
        assert_eq!(state(u64::MAX, None), State::Ok);
        assert_eq!(Check::usage("x", 3, None).value, "3 of unlimited");
    }
}
