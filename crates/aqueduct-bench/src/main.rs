//! Aqueduct's benchmarks: `cargo run --release -p aqueduct-bench`; `--help` has the rest.

fn main() -> anyhow::Result<()> {
    aqueduct_bench::run(&[], &[], aqueduct_bench::Built::default())
}
