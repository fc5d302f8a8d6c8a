//! One case in one step, for as long as a profiler needs.

use anyhow::Context;
use aqueduct_measure::{Case, Placement, Plan, Runner, Step, Work};
use clap::ValueEnum;

use crate::number;

/// What is to be done.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The case, such as `aqueduct/unix/feed`.
    case: String,
    /// Bytes a message.
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// What the two processes do.
    #[arg(long, value_enum, default_value = "one-way")]
    work: Kind,
    /// Where they run.
    #[arg(long, value_enum, default_value = "one-cpu")]
    placement: Place,
    /// How many processes send.
    #[arg(long, default_value_t = 1)]
    senders: u64,
    /// How many processes receive, from one that sends.
    #[arg(long, default_value_t = 1)]
    receivers: u64,
    /// For how many seconds.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    OneWay,
    RoundTrip,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Place {
    OneCpu,
    Apart,
    Free,
}

/// Takes the one sample, and says in a line what it gave.
pub(crate) async fn measure(
    runner: &mut Runner,
    cases: &[Case],
    args: &Args,
) -> anyhow::Result<String> {
    let step = Step {
        work: match args.work {
            Kind::OneWay => Work::OneWay,
            Kind::RoundTrip => Work::RoundTrip,
        },
        size: args.size,
        placement: match args.placement {
            Place::OneCpu => Placement::OneCpu,
            Place::Apart => Placement::Apart,
            Place::Free => Placement::Free,
        },
    };
    let case = cases.iter().find(|it| it.name == args.case);
    let case = case.with_context(|| format!("there is no case {:?}", args.case))?;
    let named = number::step_short(&step);
    anyhow::ensure!(step.is_for(case), "{} does no {named}", case.name);
    let plan = Plan {
        run_ms: args.seconds.saturating_mul(1000),
        ..Plan::full()
    };
    let mut order = plan.order(&step);
    (order.senders, order.receivers) = (args.senders, args.receivers);
    let sample = runner.sample(case, &order).await?;
    Ok(format!(
        "{} | {named} | {} | {}",
        case.name,
        number::short(sample.rate / 1e3),
        number::short(sample.cpu_us()),
    ))
}
