//! Aqueduct's benchmarks: `cargo run --release -p aqueduct-bench`; `--help` has the rest.

#[cfg(feature = "tls")]
mod tls;

/// What needs more crates than the others.
const MORE: &[aqueduct_measure::Case] = {
    #[cfg(feature = "tls")]
    {
        tls::CASES
    }
    #[cfg(not(feature = "tls"))]
    {
        &[]
    }
};

#[allow(unsafe_code)]
fn main() -> anyhow::Result<()> {
    // SAFETY: nothing in this program has opened a descriptor yet.
    unsafe { aqueduct::inherited::claim() };
    aqueduct_bench::run(MORE, &[], aqueduct_bench::Built::default())
}
