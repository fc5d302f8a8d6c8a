/// One fact about what an address leads to, from [`Endpoint::examine`](super::Endpoint::examine).
///
/// # Examples
///
/// ```no_run
/// use aqueduct::Endpoint;
/// use aqueduct::connect::Grade;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let jobs: Endpoint = "nats://localhost/jobs?stream=JOBS".parse()?;
/// for finding in jobs.examine().await? {
///     if finding.grade != Grade::Good {
///         println!("{}: {} ({})", finding.name, finding.value, finding.meaning);
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What was looked at, such as `retention`. Programs can rely on it.
    pub name: &'static str,
    /// What it is.
    pub value: String,
    /// Whether the promises of the address hold with it.
    pub grade: Grade,
    /// What it means for the promises, and what to do, if anything.
    pub meaning: String,
}

/// How good a [`Finding`] is.
///
/// # Examples
///
/// ```
/// use aqueduct::connect::{Finding, Grade};
///
/// fn is_usable(findings: &[Finding]) -> bool {
///     findings.iter().all(|it| it.grade != Grade::Bad)
/// }
/// # assert!(is_usable(&[]));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Grade {
    /// All promises hold.
    Good,
    /// A promise is weaker than it could be.
    Weak,
    /// The address cannot be used like this.
    Bad,
}

#[cfg(feature = "nats")]
impl Finding {
    pub(crate) fn new(
        name: &'static str,
        grade: Grade,
        value: impl ToString,
        meaning: impl Into<String>,
    ) -> Self {
        Self {
            name,
            value: value.to_string(),
            grade,
            meaning: meaning.into(),
        }
    }
}
