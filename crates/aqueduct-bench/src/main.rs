//! Measures every case: `aqueduct-bench [PATTERN] [REPETITIONS]`.

use aqueduct_measure::runner::Order;
use aqueduct_measure::stats::Spread;
use aqueduct_measure::{Placement, Runner, Work, implementations, peer};

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let cases = implementations::all();
    if let [command, spec] = &args[..]
        && command == "peer"
    {
        return peer::run(spec, &cases, |run| {
            run();
            None
        });
    }
    let pattern = args.first().map_or("", String::as_str);
    let repetitions = args.get(1).map_or(Ok(5), |it| it.parse::<usize>())?;
    let mut runner = Runner::new(&std::env::current_exe()?, &["peer"])?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let sizes = [64, 1024, 64 << 10, 1 << 20];
    for (work, placement) in [
        (Work::OneWay, Placement::Free),
        (Work::RoundTrip, Placement::OneCpu),
    ] {
        for size in sizes {
            if work == Work::RoundTrip && size > 64 << 10 {
                continue;
            }
            let order = Order::new(work, size, placement);
            let cases = || cases.iter().filter(|it| it.name.contains(pattern));
            let mut figures = vec![Vec::new(); cases().count()];
            // Interleaved: each repetition goes through all cases.
            for _ in 0..repetitions {
                for (case, figures) in cases().zip(&mut figures) {
                    if !case.does(work, size) {
                        continue;
                    }
                    match runtime.block_on(runner.sample(case, &order)) {
                        Ok(it) => figures.push(it.latency.map_or(it.rate / 1e3, |it| it.p50)),
                        Err(error) => eprintln!("{error:#}"),
                    }
                }
            }
            for (case, figures) in cases().zip(figures) {
                if let Some(Spread { median, min, max }) = Spread::of(figures) {
                    let unit = if work == Work::OneWay { "k/s" } else { "us" };
                    println!("{case}\t{size}\t{median:.2} {unit}\t[{min:.2}-{max:.2}]");
                }
            }
        }
    }
    Ok(())
}
