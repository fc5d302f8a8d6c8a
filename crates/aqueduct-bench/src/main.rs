//! Aqueduct's benchmarks: `cargo run --release -p aqueduct-bench`; `--help` has the rest.

#[allow(unsafe_code)]
fn main() -> anyhow::Result<()> {
    // SAFETY: nothing in this program has opened a descriptor yet.
    unsafe { aqueduct::inherited::claim() };
    aqueduct_bench::run(&[], &[], aqueduct_bench::Built::default())
}
